unsigned rotate_left(unsigned word, unsigned places)
{
    places &= 31;
    return places ? word << places | word >> (32 - places) : word;
}
