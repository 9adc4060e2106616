/*
 * Rigid moves: where the energy feels where a molecule lies, and its model only knows of shapes, they sample
 * its place and orientation exactly.  Distributions are compared with exact draws, and each such test must
 * see a planted fault.
 */
#include "RigidMove.h"
#include "TimewarpTestChain.h"
#include "TimewarpTestTargets.h"
#include "WithRigidMoves.h"
#include "openmm/serialization/XmlSerializer.h"
#include <sstream>

using TimewarpPlugin::ConstraintMetric;
using TimewarpPlugin::IterationNoise;
using TimewarpPlugin::RigidMotion;
using TimewarpPlugin::RigidMove;
using TimewarpPlugin::RigidMoveSize;
using TimewarpPlugin::WithRigidMoves;

/** Exact draws that chains start from, and those that their ends are compared with. */
const int NUM_STARTS = 400, NUM_COMPARED = 6000;
const char* const NEVER_MOVED = "nothing here ever does that";

/**
 * A rigid pair of opposite charges in a uniform field along z: p(cos) ~ exp(E d cos / kT), Langevin's.  Held
 * by a spring if k is not 0, so that its length and its direction are coupled:
 * p(r, cos) ~ r^2 exp(-(k (r - length)^2 / 2 - force r cos) / kT).
 */
struct Dipole : public Target {
    double force, k, length = 0.2;
    Dipole(double force, double k) : Target(2), force(force), k(k) {
    }
    std::unique_ptr<System> createSystem() const override {
        auto system = std::make_unique<System>();
        auto* field = new CustomExternalForce("-strength*q*z");
        field->addGlobalParameter("strength", force);
        field->addPerParticleParameter("q");
        auto* spring = new HarmonicBondForce();
        for (int i = 0; i < 2; i++) {
            system->addParticle(10.0);
            field->addParticle(i, {i == 0 ? -1.0 : 1.0});
        }
        spring->addBond(0, 1, length, k);
        system->addForce(field);
        system->addForce(spring);
        return system;
    }
    double energy(const std::vector<Vec3>& p) const override {
        Vec3 d = p[1] - p[0];
        double stretch = std::sqrt(d.dot(d)) - length;
        return 0.5 * k * stretch * stretch - force * d[2];
    }
    std::vector<Vec3> drawPositions(std::mt19937& random) const override {
        std::uniform_real_distribution<double> uniform;
        const double longest = 2.5 * length;
        double r = length, cosine;
        do {
            if (k > 0)
                r = drawByRejection(
                        [&](double r) {
                            return 0.5 * k * (r - length) * (r - length) - 2 * KT * std::log(r / longest);
                        },
                        1e-3 * length, longest, random);
            cosine = 2 * uniform(random) - 1;
        } while (uniform(random) > std::exp((force * (r * cosine - longest)) / KT));
        double sine = std::sqrt(1 - cosine * cosine), angle = 2 * M_PI * uniform(random);
        Vec3 place(0.1, -0.2, 0.3);
        return {place, place + Vec3(sine * std::cos(angle), sine * std::sin(angle), cosine) * r};
    }
};

/**
 * A rigid square whose corners are held by equal springs, so that its centroid is Gaussian.
 */
struct HeldSquare : public Target {
    double k = 100.0;
    HeldSquare() : Target(4) {
    }
    std::unique_ptr<System> createSystem() const override {
        auto system = std::make_unique<System>();
        auto* wells = new CustomExternalForce("0.5*k*(x^2+y^2+z^2)");
        wells->addGlobalParameter("k", k);
        for (int i = 0; i < 4; i++) {
            system->addParticle(10.0);
            wells->addParticle(i);
        }
        system->addForce(wells);
        return system;
    }
    double energy(const std::vector<Vec3>& p) const override {
        double sum = 0;
        for (const Vec3& position : p)
            sum += 0.5 * k * position.dot(position);
        return sum;
    }
    std::vector<Vec3> drawPositions(std::mt19937& random) const override {
        std::normal_distribution<double> normal;
        auto gaussian = [&] { return Vec3(normal(random), normal(random), normal(random)); };
        Vec3 center = gaussian() * std::sqrt(KT / (4 * k)), a = gaussian(), b = gaussian();
        a *= 0.1 / std::sqrt(a.dot(a));
        b -= a * (b.dot(a) / a.dot(a));
        b *= 0.1 / std::sqrt(b.dot(b));
        return {center + a, center + b, center - a, center - b};
    }
};

/**
 * Two opposite charges in a small triclinic box, whose images turn it.
 */
struct DipoleAmongImages : public Dipole {
    DipoleAmongImages() : Dipole(0.0, 0.0) {
    }
    std::unique_ptr<System> createSystem() const override {
        auto system = std::make_unique<System>();
        system->setDefaultPeriodicBoxVectors(Vec3(0.7, 0, 0), Vec3(0.2, 1.0, 0), Vec3(0.1, 0.3, 1.1));
        auto* nonbonded = new NonbondedForce();
        nonbonded->setNonbondedMethod(NonbondedForce::PME);
        nonbonded->setCutoffDistance(0.3);
        nonbonded->setPMEParameters(8.0, 12, 16, 18);
        for (int i = 0; i < 2; i++) {
            system->addParticle(10.0);
            nonbonded->addParticle(i == 0 ? -0.9 : 0.9, 0.1, 0.0);
        }
        nonbonded->addException(0, 1, 0.0, 0.1, 0.0);
        auto* bond = new HarmonicBondForce();
        bond->addBond(0, 1, length, 0.0);
        system->addForce(nonbonded);
        system->addForce(bond);
        return system;
    }
    /** Bound to a Context that computes energies. */
    mutable std::unique_ptr<System> system;
    mutable std::unique_ptr<VerletIntegrator> integrator;
    mutable std::unique_ptr<Context> context;
    double energy(const std::vector<Vec3>& p) const override {
        if (context == nullptr) {
            system = createSystem();
            integrator = std::make_unique<VerletIntegrator>(0.001);
            context =
                    std::make_unique<Context>(*system, *integrator, Platform::getPlatformByName("Reference"));
        }
        context->setPositions(p);
        return context->getState(State::Energy).getPotentialEnergy();
    }
    /** Where cells of equal area are that the directions of the dipole are divided into. */
    static const int ROWS = 32, COLUMNS = 64;
    mutable std::vector<double> energies;
    mutable std::discrete_distribution<int> cells;
    std::vector<Vec3> pointing(int cell, double row, double column) const {
        double cosine = 2 * (cell / COLUMNS + row) / ROWS - 1, sine = std::sqrt(1 - cosine * cosine);
        double angle = 2 * M_PI * (cell % COLUMNS + column) / COLUMNS;
        Vec3 place(0.1, -0.2, 0.3);
        return {place, place + Vec3(sine * std::cos(angle), sine * std::sin(angle), cosine) * length};
    }
    std::vector<Vec3> drawPositions(std::mt19937& random) const override {
        // Energies by PME take long, so the cell is drawn by that of its centre, and rejection corrects for
        // where in the cell it is.

        if (energies.empty()) {
            for (int i = 0; i < ROWS * COLUMNS; i++)
                energies.push_back(energy(pointing(i, 0.5, 0.5)));
            const double lowest = *std::min_element(energies.begin(), energies.end());
            std::vector<double> weights;
            for (double e : energies)
                weights.push_back(std::exp((lowest - e) / KT));
            cells = std::discrete_distribution<int>(weights.begin(), weights.end());
        }
        std::uniform_real_distribution<double> uniform;
        while (true) {
            int cell = cells(random);
            double row = uniform(random), column = uniform(random);
            std::vector<Vec3> positions = pointing(cell, row, column);
            double above = energy(positions) - (energies[cell] - KT);
            ASSERT(above > 0);
            if (uniform(random) < std::exp(-above / KT))
                return positions;
        }
    }
};

/**
 * What is compared with exact draws.
 */
struct Observed {
    std::vector<std::vector<double>> columns = std::vector<std::vector<double>>(5);
    void add(const Target& target, const std::vector<Vec3>& p) {
        Vec3 d = p.back() - p.front();
        double values[] = {target.energy(p), p[0][0], p[1][2], d[2], std::sqrt(d.dot(d))};
        for (int i = 0; i < 5; i++)
            columns[i].push_back(values[i]);
    }
};

/**
 * Whether values differ by more than rounding does.
 */
bool varies(const std::vector<double>& values) {
    auto ends = std::minmax_element(values.begin(), values.end());
    return *ends.second - *ends.first > 1e-9;
}

/**
 * Apply steps to exact draws and compare with other exact draws.
 *
 * @param isFree        whether the place does not matter, and is not compared
 * @param numCompared   the number of those draws
 */
void checkInvariance(const Target& target, Context& context, int steps, bool isFree,
                     int numCompared = NUM_COMPARED) {
    std::mt19937 random(3);
    Observed found, exact;
    for (int i = 0; i < NUM_STARTS; i++) {
        context.setPositions(target.drawPositions(random));
        context.getIntegrator().step(steps);
        found.add(target, context.getState(State::Positions).getPositions());
    }
    for (int i = 0; i < numCompared; i++)
        exact.add(target, target.drawPositions(random));
    for (int i = 0; i < 5; i++)
        if (!(isFree && (i == 1 || i == 2)) && varies(exact.columns[i]))
            assertSameDistribution(found.columns[i], exact.columns[i]);
}

void assertBetween(double share, double low, double high) {
    if (!(share > low && share < high))
        throw OpenMMException(std::to_string(share) + " is not between " + std::to_string(low) + " and " +
                              std::to_string(high));
}

/** Get the number of rigid moves for a number of tries. */
long long inRounds(long long tries) {
    const int round = WithRigidMoves::ROUND;
    return (tries + round - 1) / round * round;
}

double acceptance(const TimewarpMCMCIntegrator& integrator, int block = 0) {
    return integrator.getBlockNumRigidAccepted(block) / (double)integrator.getBlockNumRigidTried(block);
}

void checkExact(Platform& platform, const Target& target, const std::string& model, int steps, bool isFree,
                int numCompared = NUM_COMPARED, const std::vector<double>& latentCorrelations = {}) {
    auto system = target.createSystem();
    TimewarpMCMCIntegrator integrator(modelPath(model, target.numParticles));
    integrator.setRandomNumberSeed(5);
    integrator.setLatentCorrelations(latentCorrelations, std::vector<double>(latentCorrelations.size(), 1.0));
    Context context(*system, integrator, platform);
    checkInvariance(target, context, steps, isFree, numCompared);
    ASSERT_EQUAL(inRounds(NUM_STARTS * steps), integrator.getBlockNumRigidTried(0));
    assertBetween(acceptance(integrator), 0.2, 0.99);
}

/**
 * The place alone, the orientation alone, a shape that is drawn in one place, and one that is coupled to the
 * orientation.
 */
void testExactness(Platform& platform) {
    checkExact(platform, HeldSquare(), "identity", 10, false);
    checkExact(platform, Dipole(40.0, 0.0), "identity", 10, true);
    checkExact(platform, CoupledOscillators(4), "framed", 10, false);
    checkExact(platform, Dipole(40.0, 800.0), "stretch", 10, true);
}

/**
 * Latent moves of the shape: the state's own variables are asked for wherever rigid moves have put it.
 */
void testLatentShapes(Platform& platform) {
    const std::vector<double> correlations = {0.0, 0.6, 0.95};
    checkExact(platform, CoupledOscillators(4), "framed", 10, false, NUM_COMPARED, correlations);
    checkExact(platform, Dipole(40.0, 800.0), "stretch", 10, true, NUM_COMPARED, correlations);
}

void testPeriodicImages(Platform& platform) {
    checkExact(platform, DipoleAmongImages(), "identity", 4, true, 1000);
}

/**
 * An Integrator around a chain of one flow with rigid moves of a class of the test's own.
 */
template <class Rigid> class RigidChain : public Integrator {
public:
    RigidChain(const std::string& model, const System& system, const RigidMoveSize& size)
            : model(std::make_shared<ProposalModel>(modelPath(model, system.getNumParticles()))), size(size) {
        setStepSize(1.0);
        setConstraintTolerance(1e-5);
    }
    bool imposesLengths = true;
    void step(int steps) override {
        chain->run(*context, {TEMPERATURE, getIntegrationForceGroups(), getStepSize(), NULL}, steps);
    }

protected:
    void initialize(ContextImpl& contextRef) override {
        context = &contextRef;
        owner = &contextRef.getOwner();
        const System& system = contextRef.getSystem();
        std::vector<int> all(system.getNumParticles());
        std::iota(all.begin(), all.end(), 0);
        BlockAtoms atoms(all);
        BlockSurroundings surroundings;
        surroundings.particles = surroundings.moved = atoms.particles;
        surroundings.movedAtoms = atoms.moved;
        surroundings.rigidMoves = size;
        ConstraintMetric metric;
        if (imposesLengths)
            metric = ConstraintMetric(system, atoms.particles, atoms.moved);
        surroundings.metric = metric;
        auto makeKernel = [atoms](ContextImpl& context) {
            Kernel kernel = context.getPlatform().createKernel(TimewarpStateKernel::Name(), context);
            kernel.getAs<TimewarpStateKernel>().initialize(context.getSystem(), atoms);
            return kernel;
        };
        auto flow = std::make_unique<FlowMove>(model, makeKernel(contextRef), surroundings);
        FlowMove& inner = *flow;
        const RigidMoveSize largest = size;
        chain = std::make_unique<Chain>(0, "");
        chain->setSeed(7, true);
        chain->addMove(std::make_unique<WithRigidMoves>(std::move(flow), inner, [=](ContextImpl& context) {
            return std::make_unique<Rigid>(0x8000, makeKernel(context), atoms.particles, metric, largest);
        }));
    }
    void cleanup() override {
        chain.reset();
    }
    std::vector<std::string> getKernelNames() override {
        return {TimewarpStateKernel::Name()};
    }
    double computeKineticEnergy() override {
        return 0;
    }
    bool kineticEnergyRequiresForce() const override {
        return false;
    }

private:
    std::shared_ptr<ProposalModel> model;
    RigidMoveSize size;
    std::unique_ptr<Chain> chain;
};

/** Accepts whatever it proposes. */
struct Untested : public RigidMove {
    using RigidMove::RigidMove;
    double logAcceptance(double, double) const override {
        return 1;
    }
};

/** Goes towards x more often than back. */
struct Drifting : public RigidMove {
    using RigidMove::RigidMove;
    RigidMotion draw(IterationNoise& noise, const std::vector<Vec3>& state) const override {
        RigidMotion motion = RigidMove::draw(noise, state);
        if (motion.displacement[0] < 0 && noise.uniform() < 0.5)
            motion.displacement *= -1;
        return motion;
    }
};

/** Turns towards the field more often than away from it. */
struct Leaning : public RigidMove {
    using RigidMove::RigidMove;
    RigidMotion draw(IterationNoise& noise, const std::vector<Vec3>& state) const override {
        RigidMotion motion = RigidMove::draw(noise, state);
        if (motion.axis.dot((state[1] - state[0]).cross(Vec3(0, 0, 1))) < 0 && noise.uniform() < 0.5)
            motion.axis *= -1;
        return motion;
    }
};

/** Turns by an angle that depends on where it is. */
struct Hesitating : public RigidMove {
    using RigidMove::RigidMove;
    RigidMotion draw(IterationNoise& noise, const std::vector<Vec3>& state) const override {
        RigidMotion motion = RigidMove::draw(noise, state);
        if (state[1][2] > state[0][2])
            motion.angle *= 0.1;
        return motion;
    }
};

/** Uses the numbers of the same iteration again and again. */
struct Repeating : public RigidMove {
    using RigidMove::RigidMove;
    RigidMotion draw(IterationNoise&, const std::vector<Vec3>&) const override {
        return {Vec3(0.03, 0.02, -0.05), Vec3(0, 0, 1), 0};
    }
};

template <class Rigid>
void checkChain(Platform& platform, const Target& target, const std::string& model, bool isFree) {
    auto system = target.createSystem();
    RigidChain<Rigid> integrator(model, *system, {0.2, M_PI});
    Context context(*system, integrator, platform);
    checkInvariance(target, context, 10, isFree);
}

void testPlantedFaults(Platform& platform) {
    const Dipole rigid(40.0, 0.0), soft(40.0, 800.0);
    const HeldSquare square;
    auto assertSeen = [](const std::function<void()>& check) { assertThrows(check, "distributions differ"); };
    checkChain<RigidMove>(platform, square, "identity", false);
    checkChain<RigidMove>(platform, soft, "stretch", true);
    assertSeen([&] { checkChain<Untested>(platform, square, "identity", false); });
    assertSeen([&] { checkChain<Untested>(platform, rigid, "identity", true); });
    assertSeen([&] { checkChain<Untested>(platform, soft, "stretch", true); });
    assertSeen([&] { checkChain<Drifting>(platform, square, "identity", false); });
    assertSeen([&] { checkChain<Repeating>(platform, square, "identity", false); });
    assertSeen([&] { checkChain<Leaning>(platform, rigid, "identity", true); });

    // In a weak field it points up and down nearly as often, so that the fault has something to change.

    const Dipole free(5.0, 0.0);
    checkChain<RigidMove>(platform, free, "identity", true);
    assertSeen([&] { checkChain<Hesitating>(platform, free, "identity", true); });
}

/**
 * Two molecules that feel each other, each with its model.
 */
void testTwoBlocks(Platform& platform) {
    CoupledOscillators target(8);
    auto system = target.createSystem();
    TimewarpMCMCIntegrator integrator(TEMPERATURE);
    integrator.addBlock(modelPath("framed", 4), {0, 1, 2, 3}, 1.0);
    integrator.addBlock(modelPath("framed", 4), {4, 5, 6, 7}, 2.0);
    integrator.setScreening(false);
    integrator.setRandomNumberSeed(5);
    Context context(*system, integrator, platform);
    checkInvariance(target, context, 8, false);
    for (int block = 0; block < 2; block++) {
        ASSERT_EQUAL(inRounds(integrator.getBlockNumTried(block)), integrator.getBlockNumRigidTried(block));
        assertBetween(acceptance(integrator, block), 0.1, 0.99);
    }
}

std::vector<Vec3> tilted() {
    return {Vec3(0.1, 0, 0), Vec3(0.2, 0.1, 0.1)};
}

std::vector<Vec3> positionsOf(const Context& context) {
    return context.getState(State::Positions).getPositions();
}

/**
 * Rigid moves begin when the energy feels them and never end; before that they change nothing.
 */
void testBeginning(Platform& platform) {
    Dipole target(40.0, 800.0);
    auto system = target.createSystem();
    auto make = [&](double translation, double rotation) {
        auto integrator = std::make_unique<TimewarpMCMCIntegrator>(modelPath("stretch", 2));
        integrator->setRandomNumberSeed(5);
        integrator->setRigidMoves(translation, rotation);
        return integrator;
    };
    auto with = make(0.1, 1.0), without = make(0, 0);
    Context context1(*system, *with, platform), context2(*system, *without, platform);
    for (Context* context : {&context1, &context2}) {
        context->setPositions(tilted());
        context->setParameter("strength", 0.0);
        context->getIntegrator().step(20);
    }
    ASSERT(positionsOf(context1) == positionsOf(context2));
    ASSERT_EQUAL(0, with->getBlockNumRigidTried(0));
    for (Context* context : {&context1, &context2})
        context->setParameter("strength", 40.0);
    with->step(20);
    ASSERT_EQUAL(inRounds(20), with->getBlockNumRigidTried(0));
    for (int i = 0; i < 2; i++) {
        assertThrows([&] { without->step(1); }, NEVER_MOVED);
        assertThrows([&] { without->step(1); }, "setRigidMoves()");
    }
    context1.setParameter("strength", 0.0);
    with->step(20);
    ASSERT_EQUAL(inRounds(40), with->getBlockNumRigidTried(0));
    ASSERT_EQUAL(60, with->getNumProposed());

    // Turns are needed here, and displacements are no help.

    auto onlyMoves = make(0.2, 0), onlyTurns = make(0, 1.0);
    Context context3(*system, *onlyMoves, platform), context4(*system, *onlyTurns, platform);
    for (Context* context : {&context3, &context4})
        context->setPositions(tilted());
    assertThrows([&] { onlyMoves->step(1); }, NEVER_MOVED);
    onlyTurns->step(5);
    ASSERT_EQUAL(inRounds(5), onlyTurns->getBlockNumRigidTried(0));
}

/**
 * Nothing needs them where dynamics move everything, or the model does.
 */
void testNotNeeded(Platform& platform) {
    auto system = HeldSquare().createSystem();
    std::vector<Vec3> start{Vec3(0.1, 0, 0), Vec3(0, 0.1, 0), Vec3(-0.1, 0, 0), Vec3(0, -0.1, 0.02)};
    for (bool dynamics : {false, true}) {
        TimewarpMCMCIntegrator integrator(modelPath(dynamics ? "framed" : "affine", 4));
        if (dynamics)
            integrator.setDynamics(2, 0.001, 1.0);
        Context context(*system, integrator, platform);
        context.setPositions(start);
        integrator.step(10);
        ASSERT_EQUAL(0, integrator.getBlockNumRigidTried(0));
    }
}

/**
 * A run goes on from a checkpoint and from a State bit for bit, whether rigid moves have begun there or not,
 * and whether they have where it is loaded.
 */
void testResumption(Platform& platform) {
    Dipole target(40.0, 800.0);
    auto system = target.createSystem();
    const int all = State::Positions | State::Velocities | State::Parameters | State::IntegratorParameters;
    for (bool hasBegun : {true, false})
        for (bool fromState : {false, true}) {
            TimewarpMCMCIntegrator first(modelPath("stretch", 2)), second(modelPath("stretch", 2));
            Context context1(*system, first, platform), context2(*system, second, platform);
            context1.setPositions(tilted());
            context1.setParameter("strength", hasBegun ? 40.0 : 0.0);
            first.step(13);
            std::stringstream checkpoint;
            context1.createCheckpoint(checkpoint);
            State state = context1.getState(all);
            context2.setPositions(tilted());
            context2.setParameter("strength", hasBegun ? 0.0 : 40.0);
            second.step(3);
            if (fromState)
                context2.setState(state);
            else
                context2.loadCheckpoint(checkpoint);
            for (TimewarpMCMCIntegrator* integrator : {&first, &second})
                integrator->step(9);
            ASSERT(positionsOf(context1) == positionsOf(context2));
            ASSERT_EQUAL(first.getBlockNumRigidTried(0), second.getBlockNumRigidTried(0));
            ASSERT_EQUAL(hasBegun ? inRounds(22) : 0, second.getBlockNumRigidTried(0));
            ASSERT_EQUAL(first.getBlockNumRigidAccepted(0), second.getBlockNumRigidAccepted(0));
            for (Context* context : {&context1, &context2}) {
                context->setParameter("strength", 40.0);
                context->getIntegrator().step(9);
            }
            ASSERT(positionsOf(context1) == positionsOf(context2));
            ASSERT_EQUAL(inRounds(hasBegun ? 31 : 9), second.getBlockNumRigidTried(0));
        }
}

/**
 * The chain does not depend on how many proposals are prefetched, but for the model's rounding.
 */
void testBatchSizes(Platform& platform) {
    Dipole target(40.0, 800.0);
    auto system = target.createSystem();
    std::vector<std::vector<Vec3>> ends;
    for (int size : {1, 7, 64, 0}) {
        TimewarpMCMCIntegrator integrator(modelPath("stretch", 2));
        integrator.setRandomNumberSeed(5);
        integrator.setBatchSize(size);
        Context context(*system, integrator, platform);
        context.setPositions(tilted());
        integrator.step(30);
        for (int i = 0; i < 10; i++)
            integrator.step(1);
        ends.push_back(positionsOf(context));
    }
    for (auto& end : ends)
        ASSERT(maxDifference(end, ends[0]) < 1e-5);
}

/**
 * Counters stay readable when the Context is gone, and what makes no sense is refused.
 */
void testSettings(Platform& platform) {
    auto system = Dipole(40.0, 800.0).createSystem();
    TimewarpMCMCIntegrator integrator(modelPath("stretch", 2));
    ASSERT(integrator.getRigidTranslation() > 0 && integrator.getRigidRotation() > 3);
    for (double bad : {-0.1, std::nan(""), std::numeric_limits<double>::infinity()}) {
        assertThrows([&] { integrator.setRigidMoves(bad, 1.0); }, "displacement");
        assertThrows([&] { integrator.setRigidMoves(0.1, bad); }, "turn");
    }
    assertThrows([&] { integrator.setRigidMoves(0.1, 3.2); }, "between 0 and pi");
    integrator.setRigidMoves(0.1, 1.0);
    assertThrows([&] { integrator.getBlockNumRigidTried(1); }, "no block 1");
    {
        Context context(*system, integrator, platform);
        context.setPositions(tilted());
        integrator.step(7);
        assertThrows([&] { integrator.setRigidMoves(0.2, 1.0); }, "cannot be called after");
    }
    ASSERT_EQUAL(inRounds(7), integrator.getBlockNumRigidTried(0));
}

/**
 * In a periodic System, where each of a block's molecules has images of its own, there is no one way to turn
 * it: refused as before.
 */
void testSeveralMolecules(Platform& platform) {
    DipoleAmongImages target;
    auto system = target.createSystem();
    system->removeForce(1);
    TimewarpMCMCIntegrator integrator(modelPath("identity", 2));
    Context context(*system, integrator, platform);
    context.setPositions(tilted());
    assertThrows([&] { integrator.step(1); }, "blocks of one molecule");
}

/**
 * A thousand accepted moves far from the origin do not change the length of a constrained bond, in single
 * precision either; rounding would add up without being corrected.
 */
void testConstrainedLength(Platform& platform) {
    System system;
    system.addParticle(12.0);
    system.addParticle(1.0);
    system.addConstraint(0, 1, 0.1);
    auto* wells = new CustomExternalForce("0.01*((x-30)^2+(y-30)^2+(z-30)^2)");
    wells->addParticle(0);
    wells->addParticle(1);
    system.addForce(wells);
    for (bool imposes : {true, false}) {
        RigidChain<RigidMove> integrator("identity", system, {0.2, M_PI});
        integrator.imposesLengths = imposes;
        Context context(system, integrator, platform);
        context.setPositions({Vec3(30, 30, 30), Vec3(30.1, 30, 30)});
        integrator.step(1000);
        std::vector<Vec3> p = positionsOf(context);
        Vec3 bond = p[1] - p[0];
        double error = std::fabs(std::sqrt(bond.dot(bond)) - 0.1);
        if (imposes)
            ASSERT(error < toleranceOn(platform, 1e-12, 4e-6));
        if (!imposes && precisionOf(platform) == "single")
            ASSERT(error > 6e-6);
    }
}

void runTests(Platform& platform) {
    // Rigid moves are made on the host, whatever the platform.

    if (platform.getName() == "Reference") {
        testExactness(platform);
        testLatentShapes(platform);
        testPeriodicImages(platform);
        testPlantedFaults(platform);
        testTwoBlocks(platform);
    }
    if (standsForAllPrecisions(platform)) {
        testBeginning(platform);
        testNotNeeded(platform);
        testBatchSizes(platform);
        testSettings(platform);
        testSeveralMolecules(platform);
    }
    testResumption(platform);
    testConstrainedLength(platform);
}
