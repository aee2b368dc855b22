// Winner-take-all: the k earliest, strongest neurons of distinct features, of which each position has one.

#pragma once

#include "common.h"

namespace {

// A neuron, and its potential.
struct Neuron {
  float potential;
  int64_t feature, position;

  // The stronger one, then that of the lower feature, then position.
  bool precedes(const Neuron& other) const {
    if (potential != other.potential) return potential > other.potential;
    return feature != other.feature ? feature < other.feature : position < other.position;
  }
};

constexpr int64_t kUnknown = -1;  // the feature of a neuron whose potential is an upper bound

struct Winner {
  Neuron neuron;
  int32_t step;
};

// The competition between the neurons of a layer. A `Race` knows their potentials:
//   layer(): the `Geometry`.
//   arrive(step): all inputs of a step fire.
//   may_spike(position): whether a neuron of a position that has not fired could exceed its threshold now.
//   spike(position, step, neuron): whether one does, and the strongest of these; or kUnknown and an upper bound.
//   resolve(step, neuron): puts the strongest neuron of its position in the place of an unknown one.
template <typename Race>
class Competition {
 public:
  Competition(Race& race, int64_t k, int64_t radius)
      : race_(race), k_(k), radius_(radius), used_(race.layer().features) {}

  // The winners in order.
  const std::vector<Winner>& find(int32_t time_steps) {
    std::fill(used_.begin(), used_.end(), 0);
    won_.clear();
    for (int32_t step = 0; step < time_steps && !complete(); ++step) {
      race_.arrive(step);
      Neuron neuron;
      for (int64_t p = 0; p < race_.layer().positions(); ++p)
        if (race_.may_spike(p) && race_.spike(p, step, neuron) && !used(neuron)) spikes_.push_back(neuron);
      choose(step);
    }
    return won_;
  }

  const std::vector<Winner>& winners() const { return won_; }

 private:
  static bool after(const Neuron& one, const Neuron& other) { return other.precedes(one); }

  bool complete() const { return int64_t(won_.size()) == k_; }

  bool used(const Neuron& neuron) const { return neuron.feature != kUnknown && used_[neuron.feature]; }

  // The strongest first, until there are k winners.
  void choose(int32_t step) {
    std::make_heap(spikes_.begin(), spikes_.end(), after);
    while (!spikes_.empty() && !complete()) {
      std::pop_heap(spikes_.begin(), spikes_.end(), after);
      Neuron next = spikes_.back();
      spikes_.pop_back();
      if (inhibited(next.position)) continue;
      // Only a neuron whose upper bound is the largest of all is added up exactly. With exact potentials of all, an
      // image of deepr2024 took 0.152 instead of 0.127 ms.
      if (next.feature == kUnknown) {
        race_.resolve(step, next);
        spikes_.push_back(next);
        std::push_heap(spikes_.begin(), spikes_.end(), after);
      } else if (!used(next)) {
        used_[next.feature] = 1;
        won_.push_back({next, step});
      }
    }
    spikes_.clear();
  }

  bool inhibited(int64_t position) const {
    const int64_t width = race_.layer().out_width, y = position / width, x = position % width;
    return radius_ > 0 && std::any_of(won_.begin(), won_.end(), [&](const Winner& other) {
             const int64_t above = other.neuron.position / width, left = other.neuron.position % width;
             return std::abs(above - y) <= radius_ && std::abs(left - x) <= radius_;
           });
  }

  Race& race_;
  const int64_t k_, radius_;
  std::vector<uint8_t> used_;  // [F]
  std::vector<Neuron> spikes_;  // of a step
  std::vector<Winner> won_;
};

}  // namespace
