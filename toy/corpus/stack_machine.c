struct stack { int items[16]; int depth; };
static void push(struct stack *s, int item)
{
    if (s->depth < 16) s->items[s->depth++] = item;
}
static int pop(struct stack *s)
{
    return s->depth ? s->items[--s->depth] : 0;
}
int stack_machine(const unsigned char *code, int n)
{
    struct stack s = {{0}, 0};
    for (int i = 0; i < n; i++)
        switch (code[i] % 6) {
        case 0: push(&s, pop(&s) + pop(&s)); break;
        case 1: { int b = pop(&s); push(&s, pop(&s) - b); break; }
        case 2: push(&s, pop(&s) % 100 * (pop(&s) % 100)); break;
        default: push(&s, code[i] / 6);
        }
    return pop(&s) * 100 + s.depth;
}
