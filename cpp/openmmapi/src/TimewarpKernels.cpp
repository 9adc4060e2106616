#include "TimewarpKernels.h"
#include "IterationNoise.h"
#include "NoiseLayout.h"

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

template <typename Real>
static void writePositions(const vector<Vec3>& positions, const Vec3& origin, Real* values) {
    for (size_t i = 0; i < positions.size(); i++)
        for (int j = 0; j < 3; j++)
            values[3 * i + j] = static_cast<Real>(positions[i][j] - origin[j]);
}

void TimewarpStateKernel::writeState(ContextImpl& context, const ProposalInputs& inputs, const Vec3& origin) {
    getPositions(context, hostPositions);
    if (inputs.isDouble)
        writePositions(hostPositions, origin, static_cast<double*>(inputs.positions));
    else
        writePositions(hostPositions, origin, static_cast<float*>(inputs.positions));
}

template <typename Real>
static void writeNormals(const ProposalInputs& inputs, const RandomKey& key, int64_t firstIteration) {
    int numVelocities = 3 * inputs.numAtoms;
    Real* velocities = static_cast<Real*>(inputs.velocities);
    Real* noise = static_cast<Real*>(inputs.noise);
    for (int i = 0; i < inputs.size; i++) {
        IterationNoise random(key, firstIteration + i, NoiseLayout::FIRST_NORMAL_BLOCK);
        random.normal(velocities + i * numVelocities, numVelocities);
        random.normal(noise + i * inputs.noiseSize, inputs.noiseSize);
    }
}

void TimewarpStateKernel::drawNormals(ContextImpl& context, const ProposalInputs& inputs,
                                      const RandomKey& key, int64_t firstIteration) {
    if (inputs.isDouble)
        writeNormals<double>(inputs, key, firstIteration);
    else
        writeNormals<float>(inputs, key, firstIteration);
}
