#ifndef TIMEWARP_BONDED_TERMS_H_
#define TIMEWARP_BONDED_TERMS_H_

#include "BlockParticles.h"
#include "SystemState.h"
#include "SystemTerms.h"
#include "TensorExpression.h"

namespace TimewarpPlugin {

/**
 * The terms of one form that move with a block.
 */
class BondedTerms {
public:
    /**
     * @param form    must outlive this
     * @param block   on exit, it knows the fixed particles of the terms
     */
    BondedTerms(const BondedForm& form, BlockParticles& block);
    bool isEmpty() const {
        return places.empty();
    }
    /**
     * Set what the terms depend on besides positions.
     */
    void setState(const SystemState& state, at::Device device);
    /**
     * Compute the sum of the terms (kJ/mol).
     *
     * @param positions   of moved and fixed particles, [3, B, places] (nm)
     * @return energies, [B]
     */
    at::Tensor energies(const at::Tensor& positions) const;

private:
    /** Components of a vector for each term, [B, terms] each: torch is slow where it adds up three numbers.
     */
    using Vectors = std::array<at::Tensor, 3>;
    static Vectors crossProduct(const Vectors& a, const Vectors& b);
    static at::Tensor innerProduct(const Vectors& a, const Vectors& b);
    static at::Tensor length(const Vectors& a);
    at::Tensor atom(const at::Tensor& positions, int index) const;
    Vectors difference(const at::Tensor& positions, int from, int to) const;
    at::Tensor angle(const at::Tensor& positions) const;
    at::Tensor torsion(const at::Tensor& positions, int first) const;
    at::Tensor mapEnergies(const std::vector<at::Tensor>& arguments) const;
    at::Tensor periodicDistance(const std::vector<at::Tensor>& x) const;

    const BondedForm* form;
    /** Which terms of the form they are. */
    std::vector<int> rows;
    /** The places of their particles, those of the first of each term first. */
    std::vector<std::int64_t> places;
    PeriodicBox box;
    at::Tensor indices, mapSizes, mapFirst, mapCoefficients;
    TensorExpression::Steps prepared;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_BONDED_TERMS_H_*/
