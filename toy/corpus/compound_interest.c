double compound_interest(double amount, double percent, unsigned char years)
{
    for (int year = 0; year < years % 40; year++) {
        amount += amount * percent / 100;
        if (amount > 1e9) amount = 1e9;
    }
    return amount;
}
