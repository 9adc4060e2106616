#ifndef TIMEWARP_TENSOR_EXPRESSION_H_
#define TIMEWARP_TENSOR_EXPRESSION_H_

#include "lepton/Operation.h"
#include <ATen/ATen.h>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace TimewarpPlugin {

/**
 * One of OpenMM's algebraic expressions, evaluated on tensors in double precision.  It is a list of steps, in
 * which equal parts stand once.
 */
class TensorExpression {
public:
    using Values = std::map<std::string, at::Tensor>;
    using Function = std::function<at::Tensor(const std::vector<at::Tensor>& arguments)>;
    using Functions = std::map<std::string, Function>;
    /** The values of some of the steps; the others are undefined. */
    using Steps = std::vector<at::Tensor>;

    /**
     * Throws a Lepton::Exception if the text cannot be read.
     *
     * @param text        an expression, and after semicolons definitions of the names in it
     * @param functions   the functions it may call besides Lepton's own, with their numbers of arguments
     */
    TensorExpression(const std::string& text, const std::map<std::string, int>& functions);
    /**
     * Get the names of the variables in it.
     */
    const std::set<std::string>& getVariables() const {
        return variables;
    }
    /**
     * Compute it.
     *
     * @param values   of all variables, of shapes that can be broadcast
     */
    at::Tensor evaluate(const Values& values, const Functions& functions) const;
    /**
     * Compute the steps that depend on no other variables than these.
     */
    Steps prepare(const Values& values, const Functions& functions) const;
    /**
     * Compute the other steps.
     *
     * @param prepared   what prepare() has computed
     * @param values     of the variables that were not known then
     * @param spread     brings what was prepared to the shape of these values
     * @return the value of the expression
     */
    at::Tensor finish(const Steps& prepared, const Values& values, const Functions& functions,
                      const std::function<at::Tensor(const at::Tensor&)>& spread) const;

private:
    struct Step {
        std::shared_ptr<const Lepton::Operation> operation;
        std::vector<int> arguments;
    };
    int add(const Lepton::ExpressionTreeNode& node, std::vector<const Lepton::ExpressionTreeNode*>& known);
    static at::Tensor apply(const Lepton::Operation& operation, const std::vector<at::Tensor>& arguments,
                            const Functions& functions);
    std::vector<Step> steps;
    std::set<std::string> variables;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_TENSOR_EXPRESSION_H_*/
