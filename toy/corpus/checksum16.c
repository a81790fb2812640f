unsigned short checksum16(const unsigned short *words, int n)
{
    unsigned sum = 0;
    for (int i = 0; i < n; i++) sum += words[i];
    while (sum >> 16) sum = (sum & 0xFFFF) + (sum >> 16);
    return ~sum;
}
