#include "BlockPositions.h"
#include "Sha256.h"
#include "openmm/OpenMMException.h"
#include <cmath>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

string TimewarpPlugin::digestOfPositions(const vector<Vec3>& positions) {
    return sha256(positions.data(), positions.size() * sizeof(Vec3));
}

size_t BlockPositions::firstNotFinite(const vector<Vec3>& positions) {
    for (size_t i = 0; i < positions.size(); i++)
        if (!(isfinite(positions[i][0]) && isfinite(positions[i][1]) && isfinite(positions[i][2])))
            return i;
    return positions.size();
}

void BlockPositions::refuse(const string& atom) {
    throw OpenMMException("Timewarp: the position of " + atom +
                          " is not finite; set valid positions before stepping");
}

void BlockPositions::load(ContextImpl& context) {
    getKernel().getPositions(context, current);
    revision++;
    if (firstNotFinite(current) == current.size())
        getKernel().savePositions(context);
}

bool BlockPositions::settle(ContextImpl& context) {
    getKernel().reorderAtoms(context);
    getKernel().savePositions(context);
    current.swap(previous);
    getKernel().getPositions(context, current);
    revision++;
    return current != previous;
}

void BlockPositions::restore(ContextImpl& context) const {
    getKernel().restorePositions(context);
    context.computeVirtualSites();
}

Vec3 BlockPositions::getCentroid() const {
    Vec3 sum;
    for (const Vec3& position : current)
        sum += position;
    for (int j = 0; j < 3; j++)
        sum[j] /= current.size();
    return sum;
}
