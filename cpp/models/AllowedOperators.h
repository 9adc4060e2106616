#ifndef TIMEWARP_ALLOWED_OPERATORS_H_
#define TIMEWARP_ALLOWED_OPERATORS_H_

#include <string>

namespace TimewarpPlugin {

/**
 * Get whether a file that nobody has vouched for may use an operator of TorchScript.  Allowed is arithmetic
 * on tensors, numbers, lists and tuples, with control flow.  What is not on the list is refused, whatever it
 * is: files (aten::save, aten::from_file), other processes and machines, random numbers, the terminal,
 * operators of other libraries, and torch's internal ones, which do not check their arguments.
 *
 * @param name   with its namespace, without its overload: "aten::add"
 */
bool isAllowedOperator(const std::string& name);

} // namespace TimewarpPlugin

#endif /*TIMEWARP_ALLOWED_OPERATORS_H_*/
