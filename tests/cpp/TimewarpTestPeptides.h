#ifndef TIMEWARP_TEST_PEPTIDES_H_
#define TIMEWARP_TEST_PEPTIDES_H_

#include "OpenMM.h"
#include "openmm/serialization/XmlSerializer.h"
#include <cmath>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

/**
 * Get the Force of a kind that a System has.
 */
template <class Kind> Kind& forceOf(OpenMM::System& system) {
    for (int i = 0; i < system.getNumForces(); i++)
        if (auto* found = dynamic_cast<Kind*>(&system.getForce(i)))
            return *found;
    throw OpenMM::OpenMMException("the System has no such Force");
}

/**
 * Capped valine, alone or in water.
 */
struct Peptide {
    std::unique_ptr<OpenMM::System> system;
    std::vector<OpenMM::Vec3> positions;
    /** What turns about the bond from CA to CB. */
    std::vector<int> sideChain;
    int alpha, beta;
    int numSolute;

    template <class Kind> Kind& force() const {
        return forceOf<Kind>(*system);
    }
};

/**
 * Read it from the tests' data (see make_peptides.py there).
 *
 * @param forceField   "amber", with an implicit solvent, or "cmap", which has a CMAP term
 */
inline Peptide readPeptide(const std::string& folder, const std::string& forceField) {
    Peptide peptide;
    std::ifstream xml(folder + "/valine-dipeptide-" + forceField + ".xml");
    std::ifstream text(folder + "/valine-dipeptide.txt");
    peptide.system.reset(OpenMM::XmlSerializer::deserialize<OpenMM::System>(xml));
    int count;
    text >> count;
    peptide.sideChain.resize(count);
    for (int& particle : peptide.sideChain)
        text >> particle;
    text >> peptide.alpha >> peptide.beta;
    for (OpenMM::Vec3 p; text >> p[0] >> p[1] >> p[2];)
        peptide.positions.push_back(p);
    peptide.numSolute = peptide.positions.size();
    return peptide;
}

/** Periodic boxes for a peptide and some water (nm). */
const std::vector<OpenMM::Vec3> CUBE{OpenMM::Vec3(1.9, 0, 0), OpenMM::Vec3(0, 1.9, 0),
                                     OpenMM::Vec3(0, 0, 1.9)};
const std::vector<OpenMM::Vec3> TILTED{OpenMM::Vec3(2.0, 0, 0), OpenMM::Vec3(0.66, 1.9, 0),
                                       OpenMM::Vec3(-0.66, 0.94, 1.7)};

/**
 * Put TIP3P waters on the points of a lattice, turned at random, where the peptide leaves room.  The implicit
 * solvent is taken away.
 *
 * @param box       periodic box vectors (nm)
 * @param spacing   between the points of the lattice (nm); 0.31 is the density of water
 */
inline void addWater(Peptide& peptide, const std::vector<OpenMM::Vec3>& box, double spacing = 0.31) {
    using OpenMM::Vec3;
    OpenMM::System& system = *peptide.system;
    for (int i = system.getNumForces() - 1; i >= 0; i--)
        if (dynamic_cast<OpenMM::CustomGBForce*>(&system.getForce(i)) != NULL)
            system.removeForce(i);
    auto& nonbonded = peptide.force<OpenMM::NonbondedForce>();
    system.setDefaultPeriodicBoxVectors(box[0], box[1], box[2]);
    const std::vector<Vec3> solute = peptide.positions;
    std::mt19937 random(1);
    std::normal_distribution<double> normal;
    auto direction = [&] {
        double x = normal(random), y = normal(random), z = normal(random);
        return Vec3(x, y, z) * (1 / std::sqrt(x * x + y * y + z * z));
    };
    auto hasRoom = [&](const Vec3& p) {
        for (const Vec3& atom : solute) {
            Vec3 d = p - atom;
            for (int i = 2; i >= 0; i--)
                d -= box[i] * std::floor(d[i] / box[i][i] + 0.5);
            if (d.dot(d) < 0.27 * 0.27)
                return false;
        }
        return true;
    };
    const double angle = 104.52 * M_PI / 180, length = 0.09572;
    int points[3];
    for (int i = 0; i < 3; i++)
        points[i] = box[i][i] / spacing;
    for (int i = 0; i < points[0]; i++)
        for (int j = 0; j < points[1]; j++)
            for (int k = 0; k < points[2]; k++) {
                Vec3 oxygen = box[0] * ((double)i / points[0]) + box[1] * ((double)j / points[1]) +
                              box[2] * ((double)k / points[2]);
                if (!hasRoom(oxygen))
                    continue;
                Vec3 a = direction(), b = direction();
                b -= a * a.dot(b);
                b *= 1 / std::sqrt(b.dot(b));
                const int first = system.getNumParticles();
                for (double mass : {15.999, 1.008, 1.008})
                    system.addParticle(mass);
                nonbonded.addParticle(-0.834, 0.315075, 0.635968);
                nonbonded.addParticle(0.417, 1, 0);
                nonbonded.addParticle(0.417, 1, 0);
                for (auto [p, q] : {std::pair{0, 1}, {0, 2}, {1, 2}}) {
                    nonbonded.addException(first + p, first + q, 0, 1, 0);
                    system.addConstraint(first + p, first + q,
                                         p == 0 ? length : 2 * length * std::sin(angle / 2));
                }
                peptide.positions.push_back(oxygen);
                peptide.positions.push_back(oxygen + a * length);
                peptide.positions.push_back(oxygen + (a * std::cos(angle) + b * std::sin(angle)) * length);
            }
}

/**
 * Turn the side chain about its bond and shake it a little, or all of the peptide's atoms.
 *
 * @param moved   which atoms to shake, by some 0.005 nm
 */
inline std::vector<OpenMM::Vec3> propose(const Peptide& peptide, const std::vector<int>& moved,
                                         std::mt19937& random) {
    using OpenMM::Vec3;
    std::vector<Vec3> positions = peptide.positions;
    std::uniform_real_distribution<double> anyAngle(0, 2 * M_PI);
    std::normal_distribution<double> normal(0, 0.005);
    const double angle = anyAngle(random);
    const Vec3 center = positions[peptide.beta];
    Vec3 axis = center - positions[peptide.alpha];
    axis *= 1 / std::sqrt(axis.dot(axis));
    for (int i : peptide.sideChain) {
        Vec3 d = positions[i] - center;
        positions[i] = center + d * std::cos(angle) + axis.cross(d) * std::sin(angle) +
                       axis * (axis.dot(d) * (1 - std::cos(angle)));
    }
    for (int i : moved)
        for (int k = 0; k < 3; k++)
            positions[i][k] += normal(random);
    return positions;
}

#endif /*TIMEWARP_TEST_PEPTIDES_H_*/
