enum light { RED, RED_AMBER, GREEN, AMBER };
struct signal { enum light light; int seconds; };
int traffic_light(unsigned seconds, _Bool night)
{
    struct signal s = {RED, 0};
    for (seconds %= 200; seconds; seconds--) {
        s.seconds++;
        switch (s.light) {
        case RED: if (s.seconds == 30) s = (struct signal){RED_AMBER, 0}; break;
        case RED_AMBER: if (s.seconds == 2) s = (struct signal){GREEN, 0}; break;
        case GREEN: if (s.seconds == (night ? 10 : 25)) s = (struct signal){AMBER, 0}; break;
        case AMBER: if (s.seconds == 3) s = (struct signal){RED, 0}; break;
        }
    }
    return s.light * 100 + s.seconds;
}
