#include "MovedRegion.h"
#include "NearestImages.h"

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;
using at::Tensor;

static Vec3 toVec3(const Tensor& tensor) {
    Tensor values = tensor.cpu().contiguous();
    const double* x = values.data_ptr<double>();
    return Vec3(x[0], x[1], x[2]);
}

MovedRegion::MovedRegion(const Tensor& absolute, const PeriodicBox* box) : absolute(absolute) {
    Tensor middle = absolute[0].mean(0);
    center = toVec3(middle);
    positions = absolute - middle;
    if (box != NULL)
        positions = nearestImages(positions, *box);
    bounds.include(toVec3(positions.amin({0, 1})), toVec3(positions.amax({0, 1})));
}

vector<int> MovedRegion::findNeighbors(const SystemState& state, const vector<int>& without, double distance,
                                       const PeriodicBox* box) const {
    vector<int> found;
    visitNeighbors(state, without, distance, box, [&](int particle, const Vec3&) {
        if (found.empty() || found.back() != particle)
            found.push_back(particle);
    });
    return found;
}
