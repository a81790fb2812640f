/* The rank of up to sixteen words as vectors over two elements. */
int gaussian_parity(const unsigned short *words, int n)
{
    unsigned short basis[16] = {0};
    int rank = 0;
    for (int i = 0; i < n; i++) {
        unsigned short word = words[i];
        for (int bit = 15; bit >= 0 && word; bit--) {
            if (!(word >> bit & 1)) continue;
            if (!basis[bit]) {
                basis[bit] = word;
                rank++;
                break;
            }
            word ^= basis[bit];
        }
    }
    return rank;
}
