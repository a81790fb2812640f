struct slot { unsigned short key; unsigned short count; };
int hash_table(const unsigned short *keys, int n)
{
    struct slot slots[32] = {{0, 0}};
    int probes = 0, most = 0;
    for (int i = 0; i < n; i++) {
        unsigned at = keys[i] * 40503u >> 4 & 31;
        while (slots[at].count && slots[at].key != keys[i]) {
            at = (at + 1) & 31;
            probes++;
        }
        slots[at].key = keys[i];
        if (++slots[at].count > most) most = slots[at].count;
    }
    return probes * 100 + most;
}
