static int root(const unsigned char *parent, int node)
{
    while (parent[node] != node) node = parent[node];
    return node;
}
/* Components of sixteen nodes joined by edges (high nibble to low nibble). */
int union_find(const unsigned char *edges, int n)
{
    unsigned char parent[16];
    int components = 16;
    for (int i = 0; i < 16; i++) parent[i] = i;
    for (int i = 0; i < n; i++) {
        int a = root(parent, edges[i] >> 4), b = root(parent, edges[i] & 15);
        if (a != b) {
            parent[a] = b;
            components--;
        }
    }
    return components;
}
