#ifndef TIMEWARP_TEST_TARGETS_H_
#define TIMEWARP_TEST_TARGETS_H_

#include "TimewarpTestUtilities.h"

/**
 * A System whose distribution at TEMPERATURE can be drawn from exactly.
 */
struct Target {
    int numParticles;
    explicit Target(int numParticles) : numParticles(numParticles) {
    }
    virtual ~Target() = default;
    virtual std::unique_ptr<System> createSystem() const = 0;
    virtual double energy(const std::vector<Vec3>& positions) const = 0;
    virtual std::vector<Vec3> drawPositions(std::mt19937& random) const = 0;
};

/**
 * Draw from exp(-energy(x)/kT) between two bounds by rejection; the energy must not be negative.
 */
template <typename Energy>
double drawByRejection(Energy energy, double low, double high, std::mt19937& random) {
    std::uniform_real_distribution<double> position(low, high), uniform;
    while (true) {
        double x = position(random);
        if (uniform(random) < std::exp(-energy(x) / KT))
            return x;
    }
}

/**
 * Draw two particles in a harmonic well by rejection.
 *
 * @param k           of the well (kJ/mol/nm^2)
 * @param repulsion   what more their energy is, which must not be negative (kJ/mol)
 */
template <typename Energy>
std::vector<Vec3> drawTwoInAWell(double k, Energy repulsion, std::mt19937& random) {
    std::normal_distribution<double> normal(0, std::sqrt(KT / k));
    std::uniform_real_distribution<double> uniform;
    std::vector<Vec3> p(2);
    do
        for (Vec3& x : p)
            for (int j = 0; j < 3; j++)
                x[j] = normal(random);
    while (uniform(random) > std::exp(-repulsion(p) / KT));
    return p;
}

/**
 * Particles that each move alone in the same external potential.
 */
struct ExternalTarget : public Target {
    using Target::Target;
    virtual std::unique_ptr<CustomExternalForce> createForce() const = 0;
    virtual double particleEnergy(const Vec3& position) const = 0;
    virtual Vec3 drawParticle(std::mt19937& random) const = 0;

    std::unique_ptr<System> createSystem() const override {
        auto system = std::make_unique<System>();
        auto force = createForce();
        for (int i = 0; i < numParticles; i++) {
            system->addParticle(10.0);
            force->addParticle(i);
        }
        system->addForce(force.release());
        return system;
    }
    double energy(const std::vector<Vec3>& positions) const override {
        double sum = 0;
        for (const Vec3& p : positions)
            sum += particleEnergy(p);
        return sum;
    }
    std::vector<Vec3> drawPositions(std::mt19937& random) const override {
        std::vector<Vec3> positions(numParticles);
        for (Vec3& p : positions)
            p = drawParticle(random);
        return positions;
    }
};

/**
 * Every coordinate of every particle moves alone in k/2 x^2 + c x^4.
 */
struct AnharmonicWell : public ExternalTarget {
    double k = 50.0, c = 200.0;
    explicit AnharmonicWell(int numParticles = 4) : ExternalTarget(numParticles) {
    }
    std::unique_ptr<CustomExternalForce> createForce() const override {
        auto force = std::make_unique<CustomExternalForce>("0.5*k*(x^2+y^2+z^2)+c*(x^4+y^4+z^4)");
        force->addGlobalParameter("k", k);
        force->addGlobalParameter("c", c);
        return force;
    }
    double particleEnergy(const Vec3& p) const override {
        double sum = 0;
        for (int j = 0; j < 3; j++)
            sum += 0.5 * k * p[j] * p[j] + c * p[j] * p[j] * p[j] * p[j];
        return sum;
    }
    Vec3 drawParticle(std::mt19937& random) const override {
        auto coordinate = [&](double x) { return 0.5 * k * x * x + c * x * x * x * x; };
        double bound = std::min(std::sqrt(80 * KT / k), std::pow(40 * KT / c, 0.25));
        auto draw = [&] { return drawByRejection(coordinate, -bound, bound, random); };
        double x = draw(), y = draw(), z = draw();
        return Vec3(x, y, z);
    }
};

/**
 * Two wells along x with a barrier of h between them, harmonic in y and z.
 */
struct DoubleWell : public ExternalTarget {
    double h = 6.0, d = 0.15, k = 200.0;
    explicit DoubleWell(int numParticles = 4) : ExternalTarget(numParticles) {
    }
    std::unique_ptr<CustomExternalForce> createForce() const override {
        auto force = std::make_unique<CustomExternalForce>("h*((x/d)^2-1)^2+0.5*k*(y^2+z^2)");
        force->addGlobalParameter("h", h);
        force->addGlobalParameter("d", d);
        force->addGlobalParameter("k", k);
        return force;
    }
    double well(double x) const {
        double u = x * x / (d * d) - 1;
        return h * u * u;
    }
    double particleEnergy(const Vec3& p) const override {
        return well(p[0]) + 0.5 * k * (p[1] * p[1] + p[2] * p[2]);
    }
    Vec3 drawParticle(std::mt19937& random) const override {
        std::normal_distribution<double> normal(0.0, std::sqrt(KT / k));
        double x = drawByRejection([&](double x) { return well(x); }, -3 * d, 3 * d, random);
        double y = normal(random), z = normal(random);
        return Vec3(x, y, z);
    }
};

/**
 * A torsion: each particle goes round a ring in the x-y plane, with two barriers on its way.
 */
struct TorsionRing : public ExternalTarget {
    double radius = 0.2, k = 500.0, barrier = 3.0;
    explicit TorsionRing(int numParticles = 4) : ExternalTarget(numParticles) {
    }
    std::unique_ptr<CustomExternalForce> createForce() const override {
        auto force = std::make_unique<CustomExternalForce>(
                "0.5*k*((sqrt(x^2+y^2)-radius)^2+z^2)+barrier*(1+cos(2*atan2(y,x)-1))");
        force->addGlobalParameter("k", k);
        force->addGlobalParameter("radius", radius);
        force->addGlobalParameter("barrier", barrier);
        return force;
    }
    double angular(double angle) const {
        return barrier * (1 + std::cos(2 * angle - 1));
    }
    double particleEnergy(const Vec3& p) const override {
        double stretch = std::hypot(p[0], p[1]) - radius;
        return 0.5 * k * (stretch * stretch + p[2] * p[2]) + angular(std::atan2(p[1], p[0]));
    }
    Vec3 drawParticle(std::mt19937& random) const override {
        // The volume element r dr becomes a second test of the distance.

        double width = std::sqrt(KT / k), largest = radius + 8 * width, r;
        std::normal_distribution<double> normal(0.0, width);
        std::uniform_real_distribution<double> uniform;
        do
            r = radius + normal(random);
        while (r <= 0 || uniform(random) * largest > r);
        double angle = drawByRejection([&](double x) { return angular(x); }, -M_PI, M_PI, random);
        double z = normal(random);
        return Vec3(r * std::cos(angle), r * std::sin(angle), z);
    }
};

/**
 * A string of particles, each tied to the next and, weakly, to the origin.
 */
struct CoupledOscillators : public Target {
    double k = 40.0, coupling = 300.0;
    explicit CoupledOscillators(int numParticles = 4) : Target(numParticles) {
    }
    std::unique_ptr<System> createSystem() const override {
        auto system = std::make_unique<System>();
        auto* tether = new CustomExternalForce("0.5*k*(x^2+y^2+z^2)");
        tether->addGlobalParameter("k", k);
        auto* bonds = new HarmonicBondForce();
        for (int i = 0; i < numParticles; i++) {
            system->addParticle(10.0);
            tether->addParticle(i);
            if (i > 0)
                bonds->addBond(i - 1, i, 0.0, coupling);
        }
        system->addForce(tether);
        system->addForce(bonds);
        return system;
    }
    double energy(const std::vector<Vec3>& p) const override {
        double sum = 0;
        for (int i = 0; i < numParticles; i++) {
            sum += 0.5 * k * p[i].dot(p[i]);
            if (i > 0)
                sum += 0.5 * coupling * (p[i] - p[i - 1]).dot(p[i] - p[i - 1]);
        }
        return sum;
    }
    std::vector<Vec3> drawPositions(std::mt19937& random) const override {
        // Particle by particle from the last: the precision matrix is tridiagonal, and eliminating particle i
        // leaves that of the particles before it.

        std::normal_distribution<double> normal;
        std::vector<double> precision(numParticles);
        for (int i = 0; i < numParticles; i++) {
            precision[i] = k + coupling * ((i > 0) + (i < numParticles - 1));
            if (i > 0)
                precision[i] -= coupling * coupling / precision[i - 1];
        }
        std::vector<Vec3> positions(numParticles);
        for (int i = numParticles - 1; i >= 0; i--)
            for (int j = 0; j < 3; j++) {
                double mean = (i < numParticles - 1 ? coupling * positions[i + 1][j] / precision[i] : 0.0);
                positions[i][j] = mean + normal(random) * std::sqrt(KT / precision[i]);
            }
        return positions;
    }
};

/**
 * Create the System of a target for a model to run in: for flows that never move what they sample, one that
 * does not feel where it lies.
 */
inline std::unique_ptr<System> createSystemFor(const Target& target, const std::string& model) {
    if (model != "framed" && model != "identity")
        return target.createSystem();
    CoupledOscillators untethered(target.numParticles);
    untethered.k = 0;
    untethered.coupling = 60;
    return untethered.createSystem();
}

/**
 * Check that a chain of independent draws, or of draws and walks, does not depend on how far is computed
 * ahead, and goes on bit for bit from a checkpoint.
 *
 * @param steps       before the checkpoint, and after it
 * @param configure   sets up an integrator
 */
inline void checkBatchSizesAndResumption(Platform& platform, int steps,
                                         const std::function<void(TimewarpMCMCIntegrator&)>& configure) {
    AnharmonicWell target(4);
    for (const char* model : {"framed", "framed_or_walk"}) {
        auto system = createSystemFor(target, model);
        std::vector<long long> accepted;
        std::vector<Vec3> first;
        for (int batchSize : {1, 7, 64}) {
            TimewarpMCMCIntegrator integrator(modelPath(model, 4)), other(modelPath(model, 4));
            for (auto* each : {&integrator, &other}) {
                configure(*each);
                each->setBatchSize(batchSize);
            }
            integrator.setRandomNumberSeed(9);
            Context context(*system, integrator, platform), context2(*system, other, platform);
            std::mt19937 random(6);
            context.setPositions(target.drawPositions(random));
            integrator.step(steps);
            std::stringstream checkpoint;
            context.createCheckpoint(checkpoint);
            integrator.step(steps);
            context2.loadCheckpoint(checkpoint);
            other.step(steps);
            std::vector<Vec3> positions = context.getState(State::Positions).getPositions();
            ASSERT(positions == context2.getState(State::Positions).getPositions());
            if (first.empty())
                first = positions;
            for (int i = 0; i < 4; i++)
                ASSERT_EQUAL_VEC(first[i], positions[i], toleranceOn(platform, 1e-5, 1e-4));
            accepted.push_back(integrator.getNumAccepted());
        }
        ASSERT(accepted[0] > 20);
        ASSERT_EQUAL(accepted[0], accepted[1]);
        ASSERT_EQUAL(accepted[0], accepted[2]);
    }
}

#endif /*TIMEWARP_TEST_TARGETS_H_*/
