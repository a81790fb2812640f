/* How few coins of 50, 20, 10, 5, 2 and 1 make an amount. */
int change_coins(unsigned amount)
{
    static const int coins[] = {50, 20, 10, 5, 2, 1};
    int count = 0;
    amount %= 10000;
    for (int i = 0; i < 6; i++) {
        count += amount / coins[i];
        amount %= coins[i];
    }
    return count;
}
