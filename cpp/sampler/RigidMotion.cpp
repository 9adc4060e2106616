#include "RigidMotion.h"
#include <cmath>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

vector<Vec3> RigidMotion::apply(const vector<Vec3>& positions) const {
    Vec3 center;
    for (const Vec3& p : positions)
        center += p;
    center /= positions.size();

    // Rodrigues' formula.

    const double cosine = cos(angle), sine = sin(angle);
    vector<Vec3> moved;
    moved.reserve(positions.size());
    for (const Vec3& p : positions) {
        const Vec3 v = p - center;
        const Vec3 turned = v * cosine + axis.cross(v) * sine + axis * (axis.dot(v) * (1 - cosine));
        moved.push_back(angle == 0 ? p + displacement : center + turned + displacement);
    }
    return moved;
}
