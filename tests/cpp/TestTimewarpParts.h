/*
 * Models that move a part of their atoms, and models that keep the lengths of bonds: the densities that the
 * chain is given are those of what varies alone.  What a file must keep is tested from Python.
 */
#include "ProposalModel.h"
#include "TimewarpKernels.h"
#include "TimewarpTestUtilities.h"
#include "openmm/internal/ContextImpl.h"

using TimewarpPlugin::DeviceLoan;
using TimewarpPlugin::ProposalBatch;
using TimewarpPlugin::ProposalInputs;
using TimewarpPlugin::ProposalModel;
using TimewarpPlugin::TimewarpStateKernel;

/**
 * Lends the device of a platform to a model.
 */
class Lender : public Integrator {
public:
    explicit Lender(int numAtoms) : particles(numAtoms) {
        setStepSize(1.0);
        std::iota(particles.begin(), particles.end(), 0);
    }
    DeviceLoan lendDevice() {
        return DeviceLoan(kernel.getAs<TimewarpStateKernel>(), *context);
    }
    int getModelDevice() {
        return kernel.getAs<TimewarpStateKernel>().getModelDevice();
    }
    void step(int steps) override {
    }

protected:
    void initialize(ContextImpl& contextRef) override {
        context = &contextRef;
        kernel = contextRef.getPlatform().createKernel(TimewarpStateKernel::Name(), contextRef);
        kernel.getAs<TimewarpStateKernel>().initialize(contextRef.getSystem(),
                                                       TimewarpPlugin::BlockAtoms(particles));
    }
    void cleanup() override {
        kernel = Kernel();
    }
    std::vector<std::string> getKernelNames() override {
        return {TimewarpStateKernel::Name()};
    }
    double computeKineticEnergy() override {
        return 0;
    }

private:
    std::vector<int> particles;
    Kernel kernel;
};

/**
 * A "spherical" model of a centre and three atoms around it (tests/python/reference_models.py), and a device.
 */
struct Star {
    Star(Platform& platform, const std::string& name) : model(modelPath(name, 4)), lender(4) {
        for (int i = 0; i < 4; i++)
            system.addParticle(12.0);
        context = std::make_unique<Context>(system, lender, platform);
        model.useDevice(lender.lendDevice(), lender.getModelDevice());
    }

    /** Independent draws from x. */
    ProposalBatch propose(int size) {
        DeviceLoan loan = lender.lendDevice();
        ProposalInputs inputs = model.prepareInputs(loan, size, 4);
        ASSERT(inputs.isDouble && !inputs.onDevice);
        std::mt19937 generator(5);
        std::normal_distribution<double> normal;
        for (int i = 0; i < size * inputs.noiseSize; i++)
            ((double*)inputs.noise)[i] = normal(generator);
        model.setState(loan, x);
        ProposalBatch batch;
        model.propose(loan, std::vector<double>(size, std::numeric_limits<double>::infinity()), batch);
        return batch;
    }

    double density(const std::vector<Vec3>& state) {
        return model.independentLogDensity(lender.lendDevice(), state);
    }

    std::vector<Vec3> x{Vec3(0.3, -0.2, 0.1), Vec3(0.41, -0.2, 0.1), Vec3(0.3, -0.12, 0.1),
                        Vec3(0.3, -0.2, 0.19)};
    std::vector<double> lengths{0.11, 0.08, 0.09};
    System system;
    ProposalModel model;
    Lender lender;
    std::unique_ptr<Context> context;
};

std::vector<Vec3> positionsOf(const ProposalBatch& batch, int entry) {
    std::vector<Vec3> positions;
    for (int i = 0; i < 4; i++) {
        const double* p = &batch.positions[12 * entry + 3 * i];
        positions.emplace_back(p[0], p[1], p[2]);
    }
    return positions;
}

double bondLength(const std::vector<Vec3>& positions, int atom) {
    Vec3 d = positions[atom] - positions[0];
    return std::sqrt(d.dot(d));
}

void testMetadata(Platform& platform) {
    ProposalModel part(modelPath("spherical_star_on_context", 4));
    ASSERT(part.getMetadata().moved == std::vector<int>({1, 2, 3}));
    ASSERT(part.getMetadata().contextAtoms() == std::vector<int>({0}));
    ASSERT(part.getMetadata().namesStretches);
    ASSERT_EQUAL(3, part.getMetadata().stretches.size());
    ASSERT(part.getMetadata().stretches[1] == std::make_pair(0, 2));
    ProposalModel whole(modelPath("spherical_star", 4));
    ASSERT(whole.getMetadata().moved == std::vector<int>({0, 1, 2, 3}));
    ASSERT(whole.getMetadata().contextAtoms().empty());
    ProposalModel old(modelPath("affine", 4));
    ASSERT(!old.getMetadata().namesStretches);
    ASSERT(old.getMetadata().contextAtoms().empty());
}

/**
 * Context atoms stay to the last bit, and have no part in the density of velocities.
 */
void testContextAtoms(Platform& platform) {
    Star star(platform, "spherical_star_on_context");
    ProposalBatch batch = star.propose(8);
    for (int k = 0; k < 8; k++) {
        std::vector<Vec3> y = positionsOf(batch, k);
        ASSERT(y[0] == star.x[0]);
        ASSERT(y[1] != star.x[1]);
        ASSERT_EQUAL_TOL(batch.logForward[k] - batch.logVelocities[k], star.density(y), 1e-9);
    }
}

/**
 * The density of what remains is that of uniform directions per area of each sphere,
 * q = prod 1 / (4 pi r^2); with a free length, times that of the length.
 */
void testKeptStretches(Platform& platform) {
    const double spread = 0.05, length = 0.1;
    for (const char* name : {"spherical_star_on_context", "spherical_star"})
        for (const std::vector<int>& kept : std::vector<std::vector<int>>{{}, {0, 1, 2}, {1}, {2, 0}, {}}) {
            Star star(platform, name);
            bool whole = star.model.getMetadata().contextAtoms().empty();
            star.model.setKeptStretches(kept);
            ProposalBatch batch = star.propose(8);
            for (int k = 0; k < 8; k++) {
                std::vector<Vec3> y = positionsOf(batch, k);
                double expected = 0;
                if (whole)
                    expected = -0.5 * y[0].dot(y[0]) / (length * length) -
                               3 * std::log(length * std::sqrt(2 * M_PI));
                for (int i = 0; i < 3; i++) {
                    double r = bondLength(y, i + 1);
                    bool isKept = std::count(kept.begin(), kept.end(), i) > 0;
                    ASSERT(isKept == (std::fabs(r - star.lengths[i]) < 1e-12));
                    expected -= std::log(4 * M_PI * r * r);
                    if (!isKept) {
                        double z = std::log(r / length) / spread;
                        expected -= 0.5 * z * z + std::log(spread * r * std::sqrt(2 * M_PI));
                    }
                }
                ASSERT_EQUAL_TOL(expected, star.density(y), 1e-9);
                ASSERT_EQUAL_TOL(expected, batch.logForward[k] - batch.logVelocities[k], 1e-9);
            }
        }
}

/**
 * They can be set anew, and numbers of none are refused.
 */
void testKeptStretchesChange(Platform& platform) {
    Star star(platform, "spherical_star");
    for (bool keeps : {true, false, true}) {
        star.model.setKeptStretches(keeps ? std::vector<int>{0} : std::vector<int>());
        double r = bondLength(positionsOf(star.propose(1), 0), 1);
        ASSERT(keeps == (std::fabs(r - star.lengths[0]) < 1e-12));
    }
    for (int number : {-1, 3})
        assertThrows([&] { star.model.setKeptStretches({0, number}); }, "none of the number");
    ProposalModel old(modelPath("affine", 4));
    assertThrows([&] { old.setKeptStretches({0}); }, "has 0 bonds");
}

void runTests(Platform& platform) {
    testMetadata(platform);
    testContextAtoms(platform);
    testKeptStretches(platform);
    testKeptStretchesChange(platform);
}
