unsigned char crc8(const unsigned char *data, int n)
{
    unsigned char crc = 0;
    for (int i = 0; i < n; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++) crc = crc & 0x80 ? crc << 1 ^ 0x07 : crc << 1;
    }
    return crc;
}
