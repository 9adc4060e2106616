#ifndef TIMEWARP_SYSTEM_TERMS_H_
#define TIMEWARP_SYSTEM_TERMS_H_

#include "internal/windowsExportTimewarp.h"
#include "openmm/System.h"
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace TimewarpPlugin {

class BornSums;
class TensorExpression;

/**
 * Adds the value of a global parameter, times a scale, to one parameter of a row of a table.
 */
struct ParameterOffset {
    std::string global;
    int column;
    double scale;
};

/**
 * Parameters of terms or particles: a row for each, a column for each parameter.
 */
struct ParameterTable {
    std::vector<std::string> columns;
    std::vector<double> values;
    std::multimap<int, ParameterOffset> offsets;
    /**
     * Get one parameter of a row.
     *
     * @param globals   values of the global parameters
     */
    double get(int row, int column, const std::map<std::string, double>& globals) const;
};

/**
 * A function that is given by a table.
 */
struct FunctionTable {
    /** Numbers of values along each argument of a function of integers, the first of which runs fastest. */
    std::vector<int> sizes;
    std::vector<double> values;
    /** A cubic spline between two bounds, of one argument; else empty. */
    std::vector<double> secondDerivatives;
    double low = 0, high = 0;
    bool periodic = false;
};

/**
 * Maps of two torsions (CMAP), as bicubic splines.
 */
struct TorsionMaps {
    /** Of each map: the number of patches along either torsion, and the index of its first patch. */
    std::vector<int> sizes, first;
    /** 16 of each patch, of which those along the first torsion are next to each other (kJ/mol). */
    std::vector<double> coefficients;
};

/**
 * Terms of one internal coordinate each, or of one position.
 */
struct BondedForm {
    enum Coordinate { POSITION, DISTANCE, ANGLE, TORSION, TWO_TORSIONS };
    std::string name;
    Coordinate coordinate;
    /** Whether differences of positions are those of nearest images. */
    bool periodic = false;
    /** Of the coordinate ("r", "theta", "theta1" and "theta2", or "x", "y" and "z"), parameters, globals. */
    std::string text;
    std::shared_ptr<const TensorExpression> expression;
    std::vector<std::string> globals;
    /** Particles of each term, getNumParticles() in a row. */
    std::vector<int> particles;
    ParameterTable parameters;
    TorsionMaps maps;
    int getNumParticles() const;
    int getNumTerms() const;
};

/**
 * What the energy of a pair in a NonbondedForce depends on besides its particles.  At a distance r it is
 *
 *     f q1 q2 (1/r + k r^2 - c) + 4 sqrt(e1 e2) (x^2 - x) (1 + t^3 (-10 + t (15 - 6 t))),
 *
 *     x = ((s1 + s2)/(2 r))^6,   t = max(0, (r - begin) rate),
 *
 * with the charges q, f = 1/(4 pi epsilon0), the Lennard-Jones parameters s (nm) and e (kJ/mol), a reaction
 * field, which stands for the reciprocal space of Ewald sums, too, and OpenMM's switching function.
 */
struct NonbondedFunction {
    /** Of the reaction field (nm^-3 and 1/nm); both are 0 without a cut-off. */
    double k = 0, c = 0;
    bool isSwitched = false;
    /** Where switching begins (nm), and the reciprocal of how far it reaches from there (1/nm). */
    double begin = 0, rate = 0;
};

/**
 * Terms of pairs of particles: all pairs but the excluded ones, or those between groups.
 */
struct PairForm {
    std::string name;
    /** Of the distance ("r"), the parameters of both ("charge1", "charge2") and globals. */
    std::string text;
    std::shared_ptr<const TensorExpression> expression;
    std::vector<std::string> globals;
    /**
     * The same function as the text, if it is that of a NonbondedForce.  The parameters are "charge", "sigma"
     * and "epsilon" then, and nothing is computed from them.  On CPUs a loop over pairs (NonbondedPairs) is
     * much faster than the expression.
     */
    std::optional<NonbondedFunction> nonbonded;
    /** Of each particle. */
    ParameterTable parameters;
    /** More parameters, which are expressions of the others. */
    std::vector<std::pair<std::string, std::shared_ptr<const TensorExpression>>> computed;
    std::map<std::string, FunctionTable> functions;
    std::vector<std::pair<int, int>> exclusions;
    std::vector<std::pair<std::set<int>, std::set<int>>> groups;
    /** In nm; 0 if there is none. */
    double cutoff = 0;
    bool periodic = false;
    /** Where switching the energy off begins (nm); 0 if it does not, or if the expression does it. */
    double switching = 0;
};

/**
 * A generalised Born energy (GBSAOBCForce).
 */
struct BornForm {
    std::string name;
    /** Of each particle: charge (e), radius, radius less the offset, and that scaled (nm). */
    std::vector<double> charges, radii, reduced, scaled;
    /** What the product of two charges is multiplied by (kJ nm/mol/e^2). */
    double prefactor = 0;
    /** 4 pi times the energy of the surface (kJ/mol/nm^2). */
    double surface = 0;
    /** In nm; 0 if there is none. */
    double cutoff = 0;
    bool periodic = false;
    /** From here on a series serves for the descreening of any two particles (nm). */
    double farDistance = 0;
    /** Looked up once for all blocks. */
    std::shared_ptr<BornSums> sums;
};

/**
 * The terms of a System's energy that a LocalEnergy can be made of.  They are read once and shared by all
 * blocks.
 */
class EXPORT_TIMEWARP SystemTerms {
public:
    /**
     * @param system        the System, which need not be kept
     * @param forceGroups   a set of bits: which groups of Forces to take
     */
    SystemTerms(const OpenMM::System& system, int forceGroups);
    const std::vector<BondedForm>& getBonded() const {
        return bonded;
    }
    const std::vector<PairForm>& getPairs() const {
        return pairs;
    }
    const std::vector<BornForm>& getBorn() const {
        return born;
    }
    int getNumParticles() const {
        return numParticles;
    }
    /**
     * Get which virtual sites depend on some particles, directly or by way of others.
     */
    std::set<int> getSitesOf(const std::set<int>& particles) const;
    bool isVirtualSite(int particle) const {
        return sites.count(particle) > 0;
    }
    /**
     * Get the names of the global parameters that they depend on.
     */
    const std::set<std::string>& getGlobals() const {
        return globals;
    }
    /**
     * Get what was left out, in words.
     */
    const std::vector<std::string>& getLeftOut() const {
        return leftOut;
    }
    /**
     * Get the SHA-256 digest of all terms.
     */
    const std::string& getDigest() const {
        return digest;
    }

private:
    int numParticles;
    std::vector<BondedForm> bonded;
    std::vector<PairForm> pairs;
    std::vector<BornForm> born;
    std::set<std::string> globals;
    /** Virtual sites, and the particles that each depends on. */
    std::map<int, std::vector<int>> sites;
    std::vector<std::string> leftOut;
    std::string digest;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_SYSTEM_TERMS_H_*/
