struct branch { short key, less, more; };
int search_tree(const short *keys, int n)
{
    struct branch tree[17];
    int size = 0, depths = 0;
    for (int i = 0; i < n; i++) {
        short *link = 0;
        int at = 0, depth = 0;
        while (size > 0 && at >= 0) {
            if (tree[at].key == keys[i]) break;
            link = keys[i] < tree[at].key ? &tree[at].less : &tree[at].more;
            at = *link;
            depth++;
        }
        if (size > 0 && at >= 0) continue;
        if (link) *link = size;
        tree[size++] = (struct branch){keys[i], -1, -1};
        depths += depth;
    }
    return depths * 20 + size;
}
