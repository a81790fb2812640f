unsigned long djb2_hash(const char *text)
{
    unsigned long hash = 5381;
    for (; *text; text++) hash = (hash << 5) + hash + *text;
    return hash;
}
