static int move(int disks, int from, int to)
{
    if (disks == 0) return 0;
    int spare = 6 - from - to;
    return move(disks - 1, from, spare) + from * 10 + to + move(disks - 1, spare, to);
}
int hanoi_moves(unsigned disks, _Bool reversed)
{
    return reversed ? move(disks % 8, 3, 1) : move(disks % 8, 1, 3);
}
