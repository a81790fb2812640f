union color { unsigned word; unsigned char parts[4]; };
unsigned color_blend(unsigned over, unsigned under)
{
    union color a = {over}, b = {under}, mixed;
    unsigned alpha = a.parts[3];
    for (int i = 0; i < 3; i++) mixed.parts[i] = (a.parts[i] * alpha + b.parts[i] * (255 - alpha) + 127) / 255;
    mixed.parts[3] = alpha + b.parts[3] * (255 - alpha) / 255;
    return mixed.word;
}
