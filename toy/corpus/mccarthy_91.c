static int m91(int n)
{
    return n > 100 ? n - 10 : m91(m91(n + 11));
}
int mccarthy_91(short n)
{
    return m91(n % 200 < 40 ? 40 : n % 200);
}
