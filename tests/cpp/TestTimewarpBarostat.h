/*
 * Periodic boxes and MonteCarloBarostat: the chain must see that the box and the positions have changed.
 */
#include "TimewarpTestTargets.h"
#include "openmm/reference/SimTKOpenMMRealType.h"

/**
 * Particles in a periodic box with a soft well at its corner, each a molecule of its own.  Volume and
 * positions can be drawn exactly: V^N exp(-PV/kT) is a gamma distribution, positions are uniform in the box,
 * and the energy, which is nowhere negative, decides by rejection.
 */
struct WellInABox {
    static constexpr int numParticles = 4;
    /** Particles that feel nothing and are not moved by the model. With few particles the volume varies so
     * much that OpenMM's barostat, which remembers the size of its moves, would try negative ones. */
    int numBystanders = 0;
    double pressure = 1000.0; // bar
    double depth = 1.5 * KT, width = 0.15;

    std::unique_ptr<System> createSystem(double barostatPressure) const {
        auto system = std::make_unique<System>();
        auto* force = new CustomExternalForce("depth*(1-exp(-0.5*(periodicdistance(x,y,z,0,0,0)/width)^2))");
        force->addGlobalParameter("depth", depth);
        force->addGlobalParameter("width", width);
        for (int i = 0; i < numParticles; i++) {
            system->addParticle(10.0);
            force->addParticle(i);
        }
        for (int i = 0; i < numBystanders; i++)
            system->addParticle(10.0);
        system->addForce(force);
        auto* barostat = new MonteCarloBarostat(barostatPressure, TEMPERATURE, 2);
        barostat->setRandomNumberSeed(3);
        system->addForce(barostat);
        double length = std::cbrt((numParticles + numBystanders + 1) * KT / mdPressure());
        system->setDefaultPeriodicBoxVectors(Vec3(length, 0, 0), Vec3(0, length, 0), Vec3(0, 0, length));
        return system;
    }
    /** The pressure in kJ/mol/nm^3. */
    double mdPressure() const {
        return pressure * (AVOGADRO * 1e-25);
    }
    double energy(const std::vector<Vec3>& positions, double length) const {
        double sum = 0;
        for (int i = 0; i < numParticles; i++) {
            const Vec3& p = positions[i];
            double square = 0;
            for (int j = 0; j < 3; j++) {
                double d = p[j] - length * std::round(p[j] / length);
                square += d * d;
            }
            sum += depth * (1 - std::exp(-0.5 * square / (width * width)));
        }
        return sum;
    }
    void draw(std::mt19937& random, double& length, std::vector<Vec3>& positions) const {
        std::gamma_distribution<double> volume(numParticles + numBystanders + 1, KT / mdPressure());
        std::uniform_real_distribution<double> uniform;
        auto place = [&](Vec3& position) {
            for (int j = 0; j < 3; j++)
                position[j] = length * uniform(random);
        };
        positions.resize(numParticles + numBystanders);
        do {
            length = std::cbrt(volume(random));
            std::for_each(positions.begin(), positions.begin() + numParticles, place);
        } while (uniform(random) > std::exp(-energy(positions, length) / KT));

        // Bystanders have no energy, so nothing is decided by where they are.

        std::for_each(positions.begin() + numParticles, positions.end(), place);
    }
};

/**
 * Run a chain, with or without dynamics that move the bystanders too, from an exact draw and compare samples,
 * far enough from each other, with other exact draws. (The barostat adapts the size of its moves to the
 * volume that it has, so it cannot be given another draw each time.)
 */
void checkBarostat(int batchSize, Platform& platform, double barostatPressure, bool withDynamics = false) {
    const int numSamples = 400, numExact = 4000;
    WellInABox target;
    target.numBystanders = 36;
    target.pressure = 8000.0;
    auto system = target.createSystem(barostatPressure);
    TimewarpMCMCIntegrator integrator(modelPath("affine", WellInABox::numParticles));
    integrator.setParticles({0, 1, 2, 3});
    if (withDynamics)
        integrator.setDynamics(4, 0.01, 5.0);
    else
        integrator.setFrozenOthers(true);
    integrator.setBatchSize(batchSize);
    integrator.setRandomNumberSeed(19);
    Context context(*system, integrator, platform);
    std::mt19937 random(2);
    std::vector<double> volumes, energies, exactVolumes, exactEnergies;
    double length;
    std::vector<Vec3> positions;
    target.draw(random, length, positions);
    context.setPeriodicBoxVectors(Vec3(length, 0, 0), Vec3(0, length, 0), Vec3(0, 0, length));
    context.setPositions(positions);
    integrator.step(200);
    for (int i = 0; i < numSamples; i++) {
        integrator.step(withDynamics ? 10 : 40);
        State state = context.getState(State::Positions);
        volumes.push_back(state.getPeriodicBoxVolume());
        energies.push_back(target.energy(state.getPositions(), std::cbrt(volumes.back())));
    }
    for (int i = 0; i < numExact; i++) {
        target.draw(random, length, positions);
        exactVolumes.push_back(length * length * length);
        exactEnergies.push_back(target.energy(positions, length));
    }
    assertSameDistribution(volumes, exactVolumes);
    assertSameDistribution(energies, exactEnergies);
    ASSERT(integrator.getNumAccepted() > 100);
}

void testBarostat(Platform& platform) {
    for (int batchSize : batchSizesOn(platform))
        checkBarostat(batchSize, platform, 8000.0);
}

void testBarostatWithDynamics(Platform& platform) {
    checkBarostat(16, platform, 8000.0, true);
}

void testBarostatCanFail(Platform& platform) {
    for (bool withDynamics : {false, true})
        assertThrows([&] { checkBarostat(64, platform, 12000.0, withDynamics); }, "distributions differ");
}

/**
 * A chain molecule of four charged particles in a box of 4 nm.
 */
std::unique_ptr<System> createMolecule() {
    auto system = std::make_unique<System>();
    system->setDefaultPeriodicBoxVectors(Vec3(4, 0, 0), Vec3(0, 4, 0), Vec3(0, 0, 4));
    auto* nonbonded = new NonbondedForce();
    nonbonded->setNonbondedMethod(NonbondedForce::CutoffPeriodic);
    auto* bonds = new HarmonicBondForce();
    for (int i = 0; i < 4; i++) {
        system->addParticle(10.0);
        nonbonded->addParticle(i % 2 == 0 ? 0.2 : -0.2, 0.2, 0.5);
        if (i > 0)
            bonds->addBond(i - 1, i, 0.3, 300.0);
    }
    system->addForce(nonbonded);
    system->addForce(bonds);
    return system;
}

/**
 * A molecule that lies across the edge of the box, or in another image of it, is sampled like any other.
 */
void testPeriodicImages(Platform& platform) {
    std::vector<std::vector<Vec3>> results;
    auto system = createMolecule();
    for (double shift : {0.0, 1.9, 20.0}) {
        std::vector<Vec3> positions;
        for (int i = 0; i < 4; i++)
            positions.push_back(Vec3(shift + 0.3 * i, 0.1 * (i % 2), 0.0));
        TimewarpMCMCIntegrator integrator(modelPath("affine", 4));
        integrator.setRandomNumberSeed(8);
        Context context(*system, integrator, platform);
        context.setPositions(positions);
        integrator.step(100);
        ASSERT(integrator.getNumAccepted() > 3);
        results.push_back(context.getState(State::Positions).getPositions());
        for (Vec3& p : results.back())
            p[0] -= shift;
    }
    for (int i = 0; i < 4; i++) {
        ASSERT_EQUAL_VEC(results[0][i], results[1][i], toleranceOn(platform, 1e-5, 1e-4));
        ASSERT_EQUAL_VEC(results[0][i], results[2][i], toleranceOn(platform, 1e-5, 1e-4));
    }
}

/**
 * To a flow that depends on where molecules lie, images of one state are different states.  The four
 * particles of WellInABox are four molecules, which have images of their own.
 */
void testModelMustBeInvariantToTranslation(Platform& platform) {
    auto tryModel = [&](const System& system, const std::string& model) {
        TimewarpMCMCIntegrator integrator(modelPath(model, 4));
        Context context(system, integrator, platform);
        context.setPositions({Vec3(), Vec3(0.3, 0, 0), Vec3(0.6, 0, 0), Vec3(0.9, 0, 0)});
        integrator.step(1);
    };
    auto particles = WellInABox().createSystem(1000.0), molecule = createMolecule();
    for (const char* model : {"anisotropic", "lags", "tilted", "random"}) {
        assertThrows([&] { tryModel(*particles, model); }, "invariant to the translation");
        assertThrows([&] { tryModel(*molecule, model); }, "invariant to the translation");
    }
    tryModel(*particles, "affine");
    for (const char* model : {"affine", "identity"})
        tryModel(*molecule, model);
    assertThrows([&] { tryModel(*particles, "framed"); }, "invariant to the translation");
    tryModel(*molecule, "framed");
}

void runTests(Platform& platform) {
    if (standsForAllPrecisions(platform)) {
        testBarostat(platform);
        testModelMustBeInvariantToTranslation(platform);
    }
    if (!isDevice(platform)) {
        testBarostatWithDynamics(platform);
        testBarostatCanFail(platform);
    }
    testPeriodicImages(platform);
}
