/* One generation of Conway's game on a four by four torus. */
unsigned short life_step(unsigned short cells)
{
    unsigned short next = 0;
    for (int row = 0; row < 4; row++)
        for (int column = 0; column < 4; column++) {
            int around = 0;
            for (int dy = 3; dy <= 5; dy++)
                for (int dx = 3; dx <= 5; dx++)
                    if (dy != 4 || dx != 4) around += cells >> ((row + dy) % 4 * 4 + (column + dx) % 4) & 1;
            int alive = cells >> (row * 4 + column) & 1;
            if (around == 3 || (alive && around == 2)) next |= 1 << (row * 4 + column);
        }
    return next;
}
