/* Digits, + - * / and parentheses, by recursive descent; text that is no expression is passed over. */
struct parser { const char *at; int depth; };
static long sum(struct parser *p);
static long factor(struct parser *p)
{
    long value = 0;
    if (*p->at == '(' && p->depth < 20) {
        p->at++;
        p->depth++;
        value = sum(p);
        if (*p->at == ')') p->at++;
        return value;
    }
    if (*p->at < '0' || *p->at > '9') return *p->at ? p->at++, 1 : 0;
    while (*p->at >= '0' && *p->at <= '9') value = (value * 10 + *p->at++ - '0') % 10007;
    return value;
}
static long product(struct parser *p)
{
    long value = factor(p);
    while (*p->at == '*' || *p->at == '/') {
        char sign = *p->at++;
        long other = factor(p);
        value = sign == '*' ? value * other % 10007 : other ? value / other : 0;
    }
    return value;
}
static long sum(struct parser *p)
{
    long value = product(p);
    while (*p->at == '+' || *p->at == '-') {
        char sign = *p->at++;
        long other = product(p);
        value += sign == '+' ? other : -other;
    }
    return value;
}
long expression_value(const char *text)
{
    struct parser p = {text, 0};
    long value = sum(&p);
    return value * 32 + (p.at - text);
}
