long stock_profit(const unsigned *prices, int n, unsigned char fee)
{
    long cash = 0, stock = -4294967296L;
    for (int day = 0; day < n; day++) {
        long sold = stock + prices[day] - fee % 4, bought = cash - prices[day];
        if (sold > cash) cash = sold;
        if (bought > stock) stock = bought;
    }
    return cash;
}
