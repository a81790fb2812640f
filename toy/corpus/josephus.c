int josephus(unsigned people, unsigned step)
{
    int survivor = 0;
    people = people % 100 + 1;
    step = step % 20 + 1;
    for (unsigned i = 2; i <= people; i++) survivor = (survivor + step) % i;
    return survivor;
}
