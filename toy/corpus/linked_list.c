struct node { int value, next; };
/* Inserts into a sorted list kept in an array, then folds it in order. */
unsigned linked_list(const short *values, int n)
{
    struct node nodes[17] = {{-40000, -1}};
    for (int i = 0; i < n; i++) {
        int at = 0;
        while (nodes[at].next >= 0 && nodes[nodes[at].next].value < values[i]) at = nodes[at].next;
        nodes[i + 1] = (struct node){values[i], nodes[at].next};
        nodes[at].next = i + 1;
    }
    unsigned folded = 0;
    for (int at = nodes[0].next; at >= 0; at = nodes[at].next) folded = folded * 17 + nodes[at].value;
    return folded;
}
