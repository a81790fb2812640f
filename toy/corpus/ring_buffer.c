struct ring { unsigned char items[8]; unsigned head, size; };
unsigned ring_buffer(const unsigned char *events, int n)
{
    struct ring ring = {{0}, 0, 0};
    unsigned lost = 0, sum = 0;
    for (int i = 0; i < n; i++) {
        if (events[i] & 1) {
            if (ring.size == 0) continue;
            sum = sum * 31 + ring.items[ring.head];
            ring.head = (ring.head + 1) % 8;
            ring.size--;
        } else if (ring.size == 8) {
            lost++;
        } else {
            ring.items[(ring.head + ring.size++) % 8] = events[i];
        }
    }
    return sum * 64 + ring.size * 8 + lost;
}
