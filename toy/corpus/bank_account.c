struct account { long balance; int overdrafts; };
static int withdraw(struct account *a, long amount)
{
    if (amount > a->balance + 500) {
        a->overdrafts++;
        return 0;
    }
    a->balance -= amount;
    return 1;
}
long bank_account(const short *orders, int n)
{
    struct account a = {1000, 0};
    for (int i = 0; i < n; i++) {
        if (orders[i] >= 0) a.balance += orders[i];
        else if (withdraw(&a, -(long)orders[i]) && a.balance < 0) a.balance -= 25;
    }
    return a.balance * 32 + a.overdrafts;
}
