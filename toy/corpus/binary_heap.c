struct heap { int items[17]; int size; };
static void insert(struct heap *h, int item)
{
    int hole = ++h->size;
    for (; hole > 1 && h->items[hole / 2] > item; hole /= 2) h->items[hole] = h->items[hole / 2];
    h->items[hole] = item;
}
static int extract(struct heap *h)
{
    int least = h->items[1], last = h->items[h->size--], hole = 1;
    while (2 * hole <= h->size) {
        int child = 2 * hole;
        if (child < h->size && h->items[child + 1] < h->items[child]) child++;
        if (h->items[child] >= last) break;
        h->items[hole] = h->items[child];
        hole = child;
    }
    h->items[hole] = last;
    return least;
}
/* Heap sort, by way of a heap of its own. */
void binary_heap(int *items, int n)
{
    struct heap h = {{0}, 0};
    for (int i = 0; i < n; i++) insert(&h, items[i]);
    for (int i = 0; i < n; i++) items[i] = extract(&h);
}
