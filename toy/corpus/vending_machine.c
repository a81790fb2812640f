struct machine { int credit, sold, returned; };
int vending_machine(const unsigned char *coins, int n)
{
    static const int values[] = {5, 10, 20, 50, 100, 0, 0, 0};
    struct machine m = {0, 0, 0};
    for (int i = 0; i < n; i++) {
        int value = values[coins[i] & 7];
        if (value) {
            m.credit += value;
        } else if (m.credit >= 65) {
            m.credit -= 65;
            m.sold++;
        } else {
            m.returned += m.credit;
            m.credit = 0;
        }
    }
    return m.sold * 10000 + m.returned + m.credit;
}
