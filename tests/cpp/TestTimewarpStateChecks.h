/*
 * What must hold before a chain goes on from a state, whichever way that came into the Context: a flow and a
 * surrogate that do not tell periodic images apart, an origin near the state, and an energy that does not
 * depend on where the molecule lies if nothing ever moves it, rigid moves being turned off.
 */
#include "KeptMotions.h"
#include "TimewarpTestForce.h"
#include "TimewarpTestTargets.h"
#include "openmm/serialization/XmlSerializer.h"
#include <sstream>

using TimewarpPlugin::findKeptMotions;
using TimewarpPlugin::KeptMotions;

const int ALL_PARAMETERS =
        State::Positions | State::Velocities | State::Parameters | State::IntegratorParameters;
const char* const NEVER_MOVED = "nothing here ever does that";

std::vector<Vec3> startAt(const Vec3& place, int numParticles = 4) {
    std::vector<Vec3> positions;
    for (int i = 0; i < numParticles; i++)
        positions.push_back(place + Vec3(0.3 * (i % 4), 0.1 * (i % 2), 0.05 * i));
    return positions;
}

/**
 * Do something with a Context into which a state has come in each of the ways there are, before its first
 * step and after it was reinitialized.
 *
 * @param system    of the Context
 * @param source    of the Context from which States and checkpoints come
 * @param steps     that were made there
 * @param prepare   called with each integrator before there is a Context
 * @param use       called with the Context
 */
void inEveryWay(const System& system, const System& source, const std::string& model, const Vec3& place,
                int steps, Platform& platform, const std::function<void(TimewarpMCMCIntegrator&)>& prepare,
                const std::function<void(Context&)>& use) {
    TimewarpMCMCIntegrator first(modelPath(model, 4));
    prepare(first);
    Context context1(source, first, platform);
    std::vector<Vec3> start = startAt(place, source.getNumParticles());
    context1.setPositions(start);
    first.step(steps);
    State state = context1.getState(ALL_PARAMETERS), positions = context1.getState(State::Positions);
    std::stringstream checkpoint;
    context1.createCheckpoint(checkpoint);
    std::vector<std::function<void(Context&)>> ways{
            [&](Context& context) { context.setPositions(start); },
            [&](Context& context) { context.setState(state); },
            [&](Context& context) { context.setState(positions); },
            [&](Context& context) {
                checkpoint.seekg(0);
                context.loadCheckpoint(checkpoint);
            },
            [&](Context& context) {
                context.setPositions(start);
                context.reinitialize(true);
            },
            [&](Context& context) {
                context.setState(state);
                context.reinitialize(true);
            },
            [&](Context& context) {
                context.setPositions(start);
                context.setState(context.getState(ALL_PARAMETERS));
            },
    };
    for (auto& way : ways) {
        TimewarpMCMCIntegrator integrator(modelPath(model, 4));
        prepare(integrator);
        Context context(system, integrator, platform);
        way(context);
        use(context);
        context.reinitialize();
        way(context);
        use(context);
    }
}

/**
 * Four particles bound to each other, with or without a box.
 */
std::unique_ptr<System> createCluster(bool periodic) {
    CoupledOscillators cluster(4);
    cluster.k = 0;
    auto system = cluster.createSystem();
    system->setDefaultPeriodicBoxVectors(Vec3(4, 0, 0), Vec3(0, 4, 0), Vec3(0, 0, 4));
    if (periodic) {
        auto* unused = new NonbondedForce();
        unused->setNonbondedMethod(NonbondedForce::CutoffPeriodic);
        for (int i = 0; i < system->getNumParticles(); i++)
            unused->addParticle(0.0, 1.0, 0.0);
        system->addForce(unused);
    }
    return system;
}

void nothing(TimewarpMCMCIntegrator&) {
}

void withoutRigidMoves(TimewarpMCMCIntegrator& integrator) {
    integrator.setRigidMoves(0, 0);
}

void testFlowsThatTellImagesApart(Platform& platform) {
    auto periodic = createCluster(true), open = createCluster(false);
    auto refused = [&](Context& context) {
        for (int i = 0; i < 2; i++)
            assertThrows([&] { context.getIntegrator().step(1); }, "invariant to the translation");
    };
    auto used = [&](Context& context) { context.getIntegrator().step(3); };
    for (int steps : {0, 5}) {
        inEveryWay(*periodic, *open, "lags", Vec3(), steps, platform, nothing, refused);
        inEveryWay(*open, *open, "lags", Vec3(), steps, platform, nothing, used);
        inEveryWay(*periodic, *open, "affine", Vec3(), steps, platform, nothing, used);
    }
    inEveryWay(*periodic, *periodic, "lags", Vec3(), 0, platform, nothing, refused);
}

/**
 * Also where the moved molecule is the last of many.
 */
void testFlowsThatTellImagesApartAmongOthers(Platform& platform) {
    auto system = createCluster(true);
    System crowded;
    crowded.setDefaultPeriodicBoxVectors(Vec3(4, 0, 0), Vec3(0, 4, 0), Vec3(0, 0, 4));
    const int numOthers = 100;
    auto* bonds = new HarmonicBondForce();
    auto* wells = new CustomExternalForce("periodicdistance(x,y,z,0,0,0)^2");
    for (int i = 0; i < numOthers + 4; i++) {
        crowded.addParticle(10.0);
        if (i > numOthers)
            bonds->addBond(i - 1, i, 0.3, 300.0);
    }
    wells->addParticle(numOthers);
    crowded.addForce(bonds);
    crowded.addForce(wells);
    for (const char* model : {"lags", "tilted", "random"}) {
        TimewarpMCMCIntegrator integrator(modelPath(model, 4));
        integrator.setParticles({numOthers, numOthers + 1, numOthers + 2, numOthers + 3});
        integrator.setFrozenOthers(true);
        Context context(crowded, integrator, platform);
        context.setPositions(startAt(Vec3(), numOthers + 4));
        assertThrows([&] { integrator.step(1); }, "invariant to the translation");
    }
}

void testSurrogatesThatTellImagesApart(Platform& platform) {
    auto periodic = createCluster(true), open = createCluster(false);
    auto with = [](const std::string& name) {
        return [name](TimewarpMCMCIntegrator& integrator) {
            integrator.setSurrogate(surrogateContent(name));
        };
    };
    for (int steps : {0, 5}) {
        inEveryWay(*periodic, *open, "affine", Vec3(), steps, platform, with("poor"), [&](Context& context) {
            for (int i = 0; i < 2; i++)
                assertThrows([&] { context.getIntegrator().step(1); }, "other images of the box");
        });
        inEveryWay(*periodic, *open, "affine", Vec3(3, -2, 1), steps, platform, with("pairs"),
                   [&](Context& context) { context.getIntegrator().step(3); });
    }
}

double savedNumber(Context& context, const std::string& name) {
    State state = context.getState(State::IntegratorParameters);
    std::stringstream stream;
    XmlSerializer::serialize(&state, "State", stream);
    const std::string xml = stream.str(), key = " " + name + "=\"";
    size_t place = xml.find(key);
    ASSERT(place != std::string::npos);
    return std::stod(xml.substr(place + key.size()));
}

/**
 * The model is shown positions near zero from the first step on.
 */
void testOrigin(Platform& platform) {
    auto open = createCluster(false);
    const Vec3 place(5, -3, 2);
    for (int steps : {0, 5})
        inEveryWay(*open, *open, "affine", place, steps, platform, nothing, [&](Context& context) {
            context.getIntegrator().step(1);
            ASSERT_EQUAL(1, savedNumber(context, "originKnown"));
            const std::string names[] = {"originX", "originY", "originZ"};
            for (int j = 0; j < 3; j++)
                ASSERT(std::fabs(savedNumber(context, names[j]) - place[j]) < 1);
        });
}

void testPositionsThatAreNotFinite(Platform& platform) {
    auto open = createCluster(false);
    TimewarpMCMCIntegrator first(modelPath("affine", 4)), second(modelPath("affine", 4));
    Context context1(*open, first, platform), context2(*open, second, platform);
    std::vector<Vec3> positions = startAt(Vec3());
    positions[2][1] = std::nan("");
    context1.setPositions(positions);
    context2.setState(context1.getState(ALL_PARAMETERS));
    for (int i = 0; i < 2; i++)
        assertThrows([&] { second.step(1); }, "position of atom 2 is not finite");
    context2.setPositions(startAt(Vec3()));
    second.step(1);
}

/**
 * What proposals have in common with the state is found.
 */
void testKeptMotions(Platform& platform) {
    std::mt19937 random(4);
    std::normal_distribution<double> normal;
    auto draw = [&] {
        double x = normal(random), y = normal(random), z = normal(random);
        return Vec3(x, y, z);
    };
    const std::vector<Vec3> x = startAt(Vec3(1, 2, 3));
    auto find = [&](const std::function<std::vector<Vec3>()>& propose) {
        std::vector<std::vector<Vec3>> proposals;
        for (int i = 0; i < 8; i++)
            proposals.push_back(propose());
        return findKeptMotions(x, proposals);
    };
    KeptMotions walk = find([&] { return std::vector<Vec3>{draw(), draw(), draw(), draw()}; });
    ASSERT(!walk.place && !walk.orientation);
    KeptMotions atom = find([&] { return std::vector<Vec3>{draw(), x[1], draw(), draw()}; });
    ASSERT(atom.place && !atom.orientation);
    Vec3 along = x[2] - x[1], across = x[0] - x[1];
    KeptMotions line = find([&] {
        return std::vector<Vec3>{draw(), x[1], x[1] + along * (1 + 0.1 * std::fabs(draw()[0])), draw()};
    });
    ASSERT(line.place && !line.orientation);
    KeptMotions frame = find([&] {
        Vec3 z = draw() * 0.1;
        return std::vector<Vec3>{x[1] + across * std::exp(z[0]) + along * z[1], x[1],
                                 x[1] + along * std::exp(z[2]), draw()};
    });
    ASSERT(frame.place && frame.orientation);
    ASSERT(!findKeptMotions(x, {}).any());
}

/**
 * Wells that hold the particles of a cluster if k is not 0.
 */
std::unique_ptr<System> createHeldCluster(double k) {
    auto system = createCluster(false);
    auto* wells = new CustomExternalForce("strength*k*(x^2+y^2+z^2)");
    wells->addGlobalParameter("strength", k);
    wells->addPerParticleParameter("k");
    for (int i = 0; i < 4; i++)
        wells->addParticle(i, {1.0});
    system->addForce(wells);
    return system;
}

/**
 * A flow of shapes in wells, in every way a state can come.
 */
void testShapesInWells(Platform& platform) {
    auto held = createHeldCluster(20.0), free = createHeldCluster(0.0);
    auto refused = [&](Context& context) {
        for (int i = 0; i < 2; i++)
            assertThrows([&] { context.getIntegrator().step(1); }, NEVER_MOVED);
    };
    auto used = [&](Context& context) { context.getIntegrator().step(3); };
    auto withoutParameters = [&](Context& context) {
        context.setParameter("strength", 20.0);
        refused(context);
        context.setParameter("strength", 0.0);
        used(context);
    };
    inEveryWay(*held, *held, "framed", Vec3(), 0, platform, withoutRigidMoves, refused);
    for (int steps : {0, 5})
        inEveryWay(*free, *free, "framed", Vec3(), steps, platform, withoutRigidMoves, withoutParameters);
    for (const char* model : {"affine", "lags", "framed_or_walk"})
        inEveryWay(*held, *held, model, Vec3(), 5, platform, withoutRigidMoves, used);
    inEveryWay(*held, *held, "framed", Vec3(), 5, platform, nothing, used);
}

/**
 * What changes between steps is looked at again.
 */
void testWhatChangesBetweenSteps(Platform& platform) {
    auto system = createHeldCluster(1.0);
    auto& wells = dynamic_cast<CustomExternalForce&>(system->getForce(system->getNumForces() - 1));
    auto setStrength = [&](double k) {
        for (int i = 0; i < 4; i++)
            wells.setParticleParameters(i, i, {k});
    };
    setStrength(0.0);
    TimewarpMCMCIntegrator integrator(modelPath("framed", 4));
    withoutRigidMoves(integrator);
    Context context(*system, integrator, platform);
    context.setPositions(startAt(Vec3()));
    integrator.step(20);
    setStrength(20.0);
    wells.updateParametersInContext(context);
    assertThrows([&] { integrator.step(1); }, NEVER_MOVED);
    assertThrows([&] { integrator.step(1); }, NEVER_MOVED);
    setStrength(0.0);
    wells.updateParametersInContext(context);
    integrator.step(20);

    // Draws of a shape and steps of a walk, and then draws alone.

    TimewarpMCMCIntegrator mixed(modelPath("framed_or_walk", 4));
    withoutRigidMoves(mixed);
    auto heldSystem = createHeldCluster(20.0);
    Context held(*heldSystem, mixed, platform);
    held.setPositions(startAt(Vec3()));
    mixed.step(20);
    mixed.setLagWeights({0, 1});
    assertThrows([&] { mixed.step(1); }, NEVER_MOVED);
    mixed.setLagWeights({0.1, 0.9});
    mixed.step(20);

    // A wall that is only felt near it.

    auto cluster = createCluster(false);
    auto* wall = new CustomExternalForce("1000*max(0,x-20)");
    wall->addParticle(0);
    cluster->addForce(wall);
    TimewarpMCMCIntegrator other(modelPath("framed", 4));
    withoutRigidMoves(other);
    Context walled(*cluster, other, platform);
    walled.setPositions(startAt(Vec3()));
    other.step(20);
    walled.setPositions(startAt(Vec3(20, 0, 0)));
    assertThrows([&] { other.step(1); }, NEVER_MOVED);
}

/**
 * Members of a CompoundIntegrator that turn and move the particles are what a flow of shapes needs; others
 * are not.
 */
void testWhatElseMoves(Platform& platform) {
    auto timewarp = [](const std::string& model, const std::vector<int>& particles) {
        auto* integrator = new TimewarpMCMCIntegrator(modelPath(model, 4));
        integrator->setParticles(particles);
        integrator->setFrozenOthers(true);
        withoutRigidMoves(*integrator);
        return integrator;
    };
    auto tryWith = [&](Integrator* other, bool nested) {
        System system;
        auto* wells = new CustomExternalForce("20*(x^2+y^2+z^2)");
        for (int i = 0; i < 8; i++) {
            system.addParticle(10.0);
            wells->addParticle(i);
        }
        system.addForce(wells);
        CompoundIntegrator compound;
        if (nested) {
            auto* inner = new CompoundIntegrator();
            inner->addIntegrator(other);
            compound.addIntegrator(inner);
        }
        else
            compound.addIntegrator(other);
        compound.addIntegrator(timewarp("framed", {0, 1, 2, 3}));
        Context context(system, compound, platform);
        context.setPositions(startAt(Vec3(), 8));
        compound.setCurrentIntegrator(1);
        compound.step(3);
    };
    for (bool nested : {false, true}) {
        tryWith(new LangevinMiddleIntegrator(TEMPERATURE, 1.0, 0.001), nested);
        tryWith(timewarp("affine", {3, 4, 5, 6}), nested);
        assertThrows([&] { tryWith(timewarp("affine", {4, 5, 6, 7}), nested); }, NEVER_MOVED);
        assertThrows([&] { tryWith(timewarp("framed", {0, 1, 2, 3}), nested); }, NEVER_MOVED);
    }
}

/**
 * Other molecules are felt, too; a barostat does not help, since it keeps their places in the box.
 */
void testOtherMolecules(Platform& platform) {
    for (bool barostat : {false, true}) {
        auto system = createCluster(true);
        auto* nonbonded = dynamic_cast<NonbondedForce*>(&system->getForce(system->getNumForces() - 1));
        for (int i = 0; i < 4; i++)
            nonbonded->setParticleParameters(i, 0.1, 0.2, 0.5);
        system->addParticle(20.0);
        nonbonded->addParticle(0.0, 0.2, 0.5);
        if (barostat)
            system->addForce(new MonteCarloBarostat(1.0, TEMPERATURE, 1));
        TimewarpMCMCIntegrator integrator(modelPath("framed", 4));
        integrator.setParticles({0, 1, 2, 3});
        integrator.setFrozenOthers(true);
        withoutRigidMoves(integrator);
        Context context(*system, integrator, platform);
        std::vector<Vec3> positions = startAt(Vec3());
        positions.push_back(Vec3(0.4, 0.5, 0.1));
        context.setPositions(positions);
        assertThrows([&] { integrator.step(1); }, NEVER_MOVED);
    }
}

/**
 * Comparing energies costs a few of them at the first step, and hardly any afterwards: also if the state is
 * changed between all steps.
 */
void testCost(Platform& platform) {
    for (const char* model : {"affine", "framed"})
        for (bool changed : {false, true}) {
            auto system = createCluster(false);
            auto* watch = new WatchForce();
            system->addForce(watch);
            TimewarpMCMCIntegrator integrator(modelPath(model, 4));
            Context context(*system, integrator, platform);
            context.setPositions(startAt(Vec3()));
            integrator.step(1);
            ASSERT(watch->numEnergies <= 4);
            watch->numEnergies = 0;
            for (int i = 0; i < 100; i++) {
                if (changed)
                    context.setPositions(startAt(Vec3(0.01 * i, 0, 0)));
                integrator.step(1);
            }
            ASSERT(watch->numEnergies >= 200);
            ASSERT(watch->numEnergies <= (changed ? 200 + 2 * 7 : 200));
        }
}

void runTests(Platform& platform) {
    // These make hundreds of Contexts. On a device the origin is looked at in all ways into a state, and what
    // is refused in one of them.

    if (!isDevice(platform)) {
        testFlowsThatTellImagesApart(platform);
        testSurrogatesThatTellImagesApart(platform);
        testShapesInWells(platform);
    }
    if (standsForAllPrecisions(platform)) {
        testFlowsThatTellImagesApartAmongOthers(platform);
        testOrigin(platform);
        testKeptMotions(platform);
        testPositionsThatAreNotFinite(platform);
        testWhatElseMoves(platform);
        testCost(platform);
    }

    // Whether energies are the same depends on their rounding.

    testWhatChangesBetweenSteps(platform);
    testOtherMolecules(platform);
}
