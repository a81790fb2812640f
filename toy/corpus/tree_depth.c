/* A tree is written as its parents: node i hangs below items[i] % i. */
static int depth(const unsigned char *items, int node)
{
    return node == 0 ? 0 : 1 + depth(items, items[node] % node);
}
int tree_depth(const unsigned char *items, int n)
{
    int deepest = 0;
    for (int node = 0; node < n; node++) {
        int d = depth(items, node);
        if (d > deepest) deepest = d;
    }
    return deepest;
}
