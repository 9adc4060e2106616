#include "PairLoops.h"

using namespace TimewarpPlugin;
using namespace OpenMM;

/**
 * Round to an integer by adding a number that leaves no bits for a fraction: processors without an
 * instruction for that, too, do this to several numbers at a time.
 */
static inline double nearestInteger(double x) {
    const double shift = 6755399441055744.0;
    return (x + shift) - shift;
}

TIMEWARP_PAIR_LOOP
void TimewarpPlugin::squaredDistances(const Vec3& point, const Points& particles, int first, int count,
                                      const PeriodicBox* box, double* squares) {
    const double *x = particles.x.data() + first, *y = particles.y.data() + first,
                 *z = particles.z.data() + first;
    const double px = point[0], py = point[1], pz = point[2];
    if (box == NULL) {
        for (int k = 0; k < count; k++) {
            const double dx = px - x[k], dy = py - y[k], dz = pz - z[k];
            squares[k] = dx * dx + dy * dy + dz * dz;
        }
        return;
    }
    const double ax = (*box)[0][0], bx = (*box)[1][0], by = (*box)[1][1];
    const double cx = (*box)[2][0], cy = (*box)[2][1], cz = (*box)[2][2];
    const double perAx = 1 / ax, perBy = 1 / by, perCz = 1 / cz;
    if (bx == 0 && cx == 0 && cy == 0) {
        for (int k = 0; k < count; k++) {
            double dx = px - x[k], dy = py - y[k], dz = pz - z[k];
            dx -= ax * nearestInteger(dx * perAx);
            dy -= by * nearestInteger(dy * perBy);
            dz -= cz * nearestInteger(dz * perCz);
            squares[k] = dx * dx + dy * dy + dz * dz;
        }
        return;
    }
    for (int k = 0; k < count; k++) {
        double dx = px - x[k], dy = py - y[k], dz = pz - z[k];
        const double c = nearestInteger(dz * perCz);
        dx -= cx * c;
        dy -= cy * c;
        dz -= cz * c;
        const double b = nearestInteger(dy * perBy);
        dx -= bx * b;
        dy -= by * b;
        dx -= ax * nearestInteger(dx * perAx);
        squares[k] = dx * dx + dy * dy + dz * dz;
    }
}

TIMEWARP_PAIR_LOOP
int TimewarpPlugin::keepBelow(double limit, const double* numbers, int count, int first, double* kept,
                              int* places) {
    int numKept = 0;
    for (int k = 0; k < count; k++) {
        kept[numKept] = numbers[k];
        places[numKept] = first + k;
        numKept += (numbers[k] < limit);
    }
    return numKept;
}

TIMEWARP_PAIR_LOOP
double TimewarpPlugin::sumOf(const double* numbers, int count) {
    const int width = 8;
    double parts[width] = {};
    int k = 0;
    for (; k + width <= count; k += width)
        for (int part = 0; part < width; part++)
            parts[part] += numbers[k + part];
    for (int part = 0; k + part < count; part++)
        parts[part] += numbers[k + part];
    return ((parts[0] + parts[1]) + (parts[2] + parts[3])) + ((parts[4] + parts[5]) + (parts[6] + parts[7]));
}
