enum state { START, SIGN, WHOLE, POINT, FRACTION, BAD };
int number_lexer(const char *text)
{
    enum state state = START;
    int digits = 0;
    for (; *text && state != BAD; text++) {
        int digit = *text >= '0' && *text <= '9';
        digits += digit;
        switch (state) {
        case START: state = digit ? WHOLE : *text == '-' || *text == '+' ? SIGN : *text == ' ' ? START : BAD; break;
        case SIGN: state = digit ? WHOLE : BAD; break;
        case WHOLE: state = digit ? WHOLE : *text == '.' ? POINT : BAD; break;
        case POINT:
        case FRACTION: state = digit ? FRACTION : BAD; break;
        default: break;
        }
    }
    return state * 100 + digits;
}
