struct robot { int x, y, facing; };
int robot_walk(const char *orders)
{
    static const signed char dx[] = {0, 1, 0, -1}, dy[] = {1, 0, -1, 0};
    struct robot r = {0, 0, 0};
    for (; *orders; orders++) {
        if (*orders == 'L' || (*orders >= '0' && *orders <= '3')) r.facing = (r.facing + 3) % 4;
        else if (*orders == 'R' || *orders == ' ') r.facing = (r.facing + 1) % 4;
        else {
            r.x += dx[r.facing];
            r.y += dy[r.facing];
        }
    }
    return r.x * 1000 + r.y * 10 + r.facing;
}
