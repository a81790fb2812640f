void softsign_layer(const double *weights, const double *inputs, double *outputs)
{
    for (int row = 0; row < 4; row++) {
        double sum = 0;
        for (int k = 0; k < 4; k++) sum += weights[row * 4 + k] * inputs[k];
        outputs[row] = sum / (1 + (sum < 0 ? -sum : sum));
    }
}
