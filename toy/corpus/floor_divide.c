int floor_divide(int a, int b)
{
    if (b == 0 || (b == -1 && a < -2147483647)) return 0;
    int quotient = a / b;
    if (a % b != 0 && (a < 0) != (b < 0)) quotient--;
    return quotient;
}
