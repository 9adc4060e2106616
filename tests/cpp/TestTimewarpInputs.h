/*
 * What a platform writes for the model: the state, and the random numbers, which must be those of the host.
 */
#include "IterationNoise.h"
#include "TimewarpKernels.h"
#include "TimewarpTestTargets.h"

using TimewarpPlugin::IterationNoise;
using TimewarpPlugin::ProposalInputs;
using TimewarpPlugin::RandomKey;
using TimewarpPlugin::TimewarpStateKernel;

/**
 * An Integrator that does nothing but to have the kernel.
 */
class KernelIntegrator : public Integrator {
public:
    KernelIntegrator() {
        setStepSize(1.0);
    }
    TimewarpStateKernel& getKernel() {
        return kernel.getAs<TimewarpStateKernel>();
    }
    ContextImpl& getContext() {
        return *context;
    }
    void step(int steps) override {
    }

protected:
    void initialize(ContextImpl& contextRef) override {
        context = &contextRef;
        owner = &contextRef.getOwner();
        std::vector<int> particles(contextRef.getSystem().getNumParticles());
        std::iota(particles.rbegin(), particles.rend(), 0);
        kernel = contextRef.getPlatform().createKernel(TimewarpStateKernel::Name(), contextRef);
        getKernel().initialize(contextRef.getSystem(), TimewarpPlugin::BlockAtoms(particles));
    }
    void cleanup() override {
        kernel = Kernel();
    }
    std::vector<std::string> getKernelNames() override {
        return {TimewarpStateKernel::Name()};
    }
    double computeKineticEnergy() override {
        return 0.0;
    }

private:
    Kernel kernel;
};

/**
 * Inputs in memory of the test's own, in which what is not written is NaN.
 */
template <typename Real> struct TestInputs {
    std::vector<Real> positions, velocities, noise;

    ProposalInputs prepare(int size, int capacity, int numAtoms, int noiseSize) {
        const Real unwritten = std::numeric_limits<Real>::quiet_NaN();
        positions.assign(3 * numAtoms, unwritten);
        velocities.assign(capacity * 3 * numAtoms, unwritten);
        noise.assign(capacity * noiseSize, unwritten);
        ProposalInputs inputs;
        inputs.size = size;
        inputs.capacity = capacity;
        inputs.numAtoms = numAtoms;
        inputs.noiseSize = noiseSize;
        inputs.isDouble = (sizeof(Real) == sizeof(double));
        inputs.positions = positions.data();
        inputs.velocities = velocities.data();
        inputs.noise = noise.data();
        return inputs;
    }
};

/**
 * Compare numbers with those of the host, and count those that are not bitwise the same: functions in double
 * precision may differ in their last bit, and then, once in many millions, what they are rounded to.
 */
template <typename Real> int countDifferences(const std::vector<float>& expected, const Real* found) {
    int different = 0;
    for (size_t i = 0; i < expected.size(); i++) {
        ASSERT_EQUAL_TOL(expected[i], found[i], 2e-7);
        different += (expected[i] != found[i]);
    }
    return different;
}

template <typename Real> void checkNormals(int numAtoms, int noiseSize, Platform& platform) {
    AnharmonicWell well(numAtoms);
    auto system = well.createSystem();
    KernelIntegrator integrator;
    Context context(*system, integrator, platform);
    TestInputs<Real> memory;
    std::vector<float> velocities(3 * numAtoms), noise(noiseSize);
    int different = 0;
    const RandomKey key({-1234567, 0x9876543210fedcba, 3, 0x1234, 0xabcd});
    for (std::int64_t start : {(std::int64_t)0, ((std::int64_t)1 << 32) - 3, (std::int64_t)123456789012345})
        for (int size : {5, 64, 1}) {
            ProposalInputs inputs = memory.prepare(size, std::max(size, 7), numAtoms, noiseSize);
            integrator.getKernel().drawNormals(integrator.getContext(), inputs, key, start);
            for (int i = 0; i < size; i++) {
                IterationNoise random(key, start + i);
                random.uniform();
                random.uniform();
                random.normal(velocities.data(), velocities.size());
                random.normal(noise.data(), noise.size());
                different += countDifferences(velocities, &memory.velocities[i * velocities.size()]);
                different += countDifferences(noise, &memory.noise[i * noise.size()]);
            }
        }
    ASSERT(different <= 1);
}

/**
 * All platforms draw the numbers that IterationNoise does one after the other, also where rows hold an odd
 * number of them.
 */
void testNormals(Platform& platform) {
    checkNormals<float>(4, 24, platform);
    checkNormals<float>(3, 7, platform);
    checkNormals<double>(1, 1, platform);
    checkNormals<double>(5, 12, platform);
}

/**
 * Seen as one sample, what is drawn has a normal distribution, and neighbours are not correlated. False-alarm
 * rate 1e-5 for the first, 2e-5 for the second.
 */
void testNormalDistribution(Platform& platform) {
    const int size = 2000, numAtoms = 3, noiseSize = 11;
    AnharmonicWell well(numAtoms);
    auto system = well.createSystem();
    KernelIntegrator integrator;
    Context context(*system, integrator, platform);
    TestInputs<float> memory;
    ProposalInputs inputs = memory.prepare(size, size, numAtoms, noiseSize);
    integrator.getKernel().drawNormals(integrator.getContext(), inputs, RandomKey({5}), 100);
    std::vector<double> found(memory.velocities.begin(), memory.velocities.end()), expected;
    found.insert(found.end(), memory.noise.begin(), memory.noise.end());
    std::mt19937_64 random(1);
    std::normal_distribution<double> normal;
    for (size_t i = 0; i < 10 * found.size(); i++)
        expected.push_back(normal(random));
    assertSameDistribution(found, expected);
    for (int distance : {1, 2, 3 * numAtoms, noiseSize}) {
        double sum = 0;
        for (size_t i = distance; i < found.size(); i++)
            sum += found[i] * found[i - distance];
        ASSERT(std::fabs(sum) < 4.6 * std::sqrt(found.size() - distance));
    }
}

template <typename Real> void checkState(Platform& platform) {
    const int numAtoms = 5;
    AnharmonicWell well(numAtoms);
    auto system = well.createSystem();
    KernelIntegrator integrator;
    Context context(*system, integrator, platform);
    std::mt19937 random(2);
    context.setPositions(well.drawPositions(random));
    std::vector<Vec3> expected;
    integrator.getKernel().getPositions(integrator.getContext(), expected);
    ASSERT_EQUAL_VEC(context.getState(State::Positions).getPositions()[0], expected[numAtoms - 1], 1e-6);
    TestInputs<Real> memory;
    for (const Vec3& origin : {Vec3(), Vec3(1.0 / 3, -17.1, 1e-5)}) {
        ProposalInputs inputs = memory.prepare(2, 2, numAtoms, 3);
        integrator.getKernel().writeState(integrator.getContext(), inputs, origin);
        for (int i = 0; i < numAtoms; i++)
            for (int j = 0; j < 3; j++)
                ASSERT(static_cast<Real>(expected[i][j] - origin[j]) == memory.positions[3 * i + j]);
    }
}

/**
 * The state is, bit for bit, what the host makes of the positions that the kernel gives it: a chain that goes
 * on from a checkpoint takes it from there.
 */
void testState(Platform& platform) {
    checkState<float>(platform);
    checkState<double>(platform);
}

void runTests(Platform& platform) {
    testState(platform);
    if (!standsForAllPrecisions(platform))
        return;
    testNormals(platform);
    testNormalDistribution(platform);
}
