unsigned long container_of_water(const unsigned *heights, int n)
{
    unsigned long most = 0;
    int left = 0, right = n - 1;
    while (left < right) {
        unsigned lower = heights[left] < heights[right] ? heights[left] : heights[right];
        unsigned long area = (unsigned long)lower * (right - left);
        if (area > most) most = area;
        if (heights[left] < heights[right]) left++;
        else right--;
    }
    return most;
}
