#include "KeptMotions.h"
#include <algorithm>
#include <cmath>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

// Positions of a few nm in single precision are rounded to less than this (nm).
static const double TOLERANCE = 1e-5;

using Positions = vector<Vec3>;

static double length(const Vec3& v) {
    return sqrt(v.dot(v));
}

static Vec3 centroid(const Positions& positions) {
    Vec3 sum;
    for (const Vec3& p : positions)
        sum += p;
    return sum / positions.size();
}

static bool areClose(const Vec3& a, const Vec3& b) {
    return length(a - b) < TOLERANCE;
}

template <typename Test> static bool holdsForAll(const vector<Positions>& proposals, Test test) {
    return all_of(proposals.begin(), proposals.end(), test);
}

/**
 * Find out whether the atoms lie on one side of the line from one atom to another, in one plane with them, as
 * they do in x.
 */
static bool keepsPlane(const Positions& x, const vector<Positions>& proposals, size_t from, size_t to) {
    Vec3 along = (x[to] - x[from]) / length(x[to] - x[from]);
    for (size_t i = 0; i < x.size(); i++) {
        Vec3 side = x[i] - x[from];
        side -= along * side.dot(along);
        if (length(side) < TOLERANCE)
            continue;
        side /= length(side);
        Vec3 normal = along.cross(side);
        if (holdsForAll(proposals, [&](const Positions& y) {
                Vec3 d = y[i] - y[from];
                return fabs(d.dot(normal)) < TOLERANCE && d.dot(side) > 0;
            }))
            return true;
    }
    return x.size() == 2;
}

static bool keepsOrientation(const Positions& x, const vector<Positions>& proposals, size_t from) {
    for (size_t to = 0; to < x.size(); to++) {
        double distance = length(x[to] - x[from]);
        if (distance < TOLERANCE)
            continue;
        Vec3 direction = (x[to] - x[from]) / distance;
        if (holdsForAll(proposals,
                        [&](const Positions& y) {
                            Vec3 d = y[to] - y[from];
                            return areClose(d, direction * length(d));
                        }) &&
            keepsPlane(x, proposals, from, to))
            return true;
    }
    return false;
}

KeptMotions TimewarpPlugin::findKeptMotions(const Positions& x, const vector<Positions>& proposals) {
    KeptMotions kept{false, false};
    if (proposals.empty())
        return kept;
    Vec3 center = centroid(x);
    kept.place = holdsForAll(proposals, [&](const Positions& y) { return areClose(centroid(y), center); });
    for (size_t i = 0; i < x.size() && !kept.orientation; i++)
        if (holdsForAll(proposals, [&](const Positions& y) { return areClose(y[i], x[i]); })) {
            kept.place = true;
            kept.orientation = keepsOrientation(x, proposals, i);
        }
    return kept;
}
