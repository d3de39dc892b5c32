"""PyTorch's schedulers driven in a real loop, and the cases that the schedules' tests compare."""

import torch

from parity.schedule_loops import SCHEDULERS

STEPS = 300
RATE = 0.1

CLASSES = {name: made for name, made in SCHEDULERS.items() if name != "constant"}

DECAYS = [
    ("exponential", {"gamma": 0.5}),
    ("exponential", {"gamma": 0.9}),
    ("exponential", {"gamma": 0.95}),
    ("exponential", {"gamma": 0.999}),
    ("exponential", {"gamma": 1.0}),
    ("exponential", {"gamma": 1.02}),
    ("step", {"step_size": 1}),
    ("step", {"step_size": 30}),
    ("step", {"step_size": 7, "gamma": 0.9}),
    ("step", {"step_size": 50, "gamma": 1.5}),
    ("step", {"step_size": 1000, "gamma": 0.5}),
    ("multi_step", {"milestones": [30, 80]}),
    ("multi_step", {"milestones": [200, 5, 80], "gamma": 0.3}),
    ("multi_step", {"milestones": [10, 10, 10, 40, 40], "gamma": 0.7}),
    ("multi_step", {"milestones": [0, 1, 299, 300], "gamma": 0.5}),
    ("multi_step", {"milestones": [], "gamma": 0.5}),
    ("multi_step", {"milestones": range(0, 300, 10), "gamma": 0.95}),
    ("constant_lr", {}),
    ("constant_lr", {"factor": 0.25, "total_iters": 40}),
    ("constant_lr", {"factor": 1.0, "total_iters": 10}),
    ("constant_lr", {"factor": 0.7, "total_iters": 1}),
    ("constant_lr", {"factor": 0.5, "total_iters": 1000}),
    ("linear", {}),
    ("linear", {"start_factor": 0.01, "total_iters": 100}),
    ("linear", {"start_factor": 1.0, "end_factor": 0.0, "total_iters": 250}),
    ("linear", {"start_factor": 0.5, "end_factor": 0.1, "total_iters": 33}),
    ("linear", {"start_factor": 1.0, "end_factor": 1.0, "total_iters": 7}),
    ("linear", {"start_factor": 1e-6, "end_factor": 0.9, "total_iters": 1}),
    ("linear", {"total_iters": 1000}),
    ("polynomial", {}),
    ("polynomial", {"total_iters": 250}),
    ("polynomial", {"total_iters": 100, "power": 2.0}),
    ("polynomial", {"total_iters": 300, "power": 0.9}),
    ("polynomial", {"total_iters": 120, "power": 0.0}),
    ("polynomial", {"total_iters": 200, "power": 3.5}),
    ("polynomial", {"total_iters": 1, "power": 0.5}),
]
COSINES = [
    ("cosine_annealing", {"T_max": 300}),
    ("cosine_annealing", {"T_max": 299, "eta_min": 1e-5}),
    ("cosine_annealing", {"T_max": 100}),
    ("cosine_annealing", {"T_max": 37, "eta_min": 0.01}),
    ("cosine_annealing", {"T_max": 50, "eta_min": 0.2}),
    ("cosine_annealing", {"T_max": 1}),
    ("cosine_annealing", {"T_max": 2, "eta_min": 0.03}),
    ("cosine_annealing", {"T_max": 10_000}),
]
RESTARTS = [
    ("cosine_annealing_warm_restarts", {"T_0": 50}),
    ("cosine_annealing_warm_restarts", {"T_0": 1}),
    ("cosine_annealing_warm_restarts", {"T_0": 1, "T_mult": 2}),
    ("cosine_annealing_warm_restarts", {"T_0": 10, "T_mult": 2, "eta_min": 1e-3}),
    ("cosine_annealing_warm_restarts", {"T_0": 7, "T_mult": 3}),
    ("cosine_annealing_warm_restarts", {"T_0": 299, "eta_min": 0.05}),
    ("cosine_annealing_warm_restarts", {"T_0": 1000, "T_mult": 5}),
]
CYCLES = [
    ("cyclic", {"max_lr": 0.5}),
    ("cyclic", {"max_lr": 0.5, "step_size_up": 20}),
    ("cyclic", {"max_lr": 0.5, "step_size_up": 20, "step_size_down": 50}),
    ("cyclic", {"max_lr": 1.0, "step_size_up": 33, "step_size_down": 4, "base_momentum": 0.5}),
    ("cyclic", {"max_lr": 1.0, "step_size_up": 1}),
    ("cyclic", {"max_lr": 1.0, "step_size_up": 3, "step_size_down": 0}),
    ("cyclic", {"max_lr": 0.01, "step_size_up": 25}),
    ("cyclic", {"max_lr": 0.5, "step_size_up": 15, "mode": "triangular2"}),
    ("cyclic", {"max_lr": 0.5, "step_size_up": 2, "step_size_down": 3, "mode": "triangular2"}),
    ("cyclic", {"max_lr": 0.5, "step_size_up": 40, "mode": "exp_range", "gamma": 0.99}),
    ("cyclic", {"max_lr": 0.5, "step_size_up": 9, "mode": "exp_range", "gamma": 0.9}),
    ("cyclic", {"max_lr": 0.5, "step_size_up": 40, "mode": "exp_range", "gamma": 1.01}),
    ("cyclic", {"max_lr": 0.5, "step_size_up": 64, "max_momentum": 0.99, "base_momentum": 0.0}),
    ("one_cycle", {"total_steps": 300}),
    ("one_cycle", {"total_steps": 300, "anneal_strategy": "linear"}),
    ("one_cycle", {"total_steps": 300, "three_phase": True}),
    ("one_cycle", {"total_steps": 300, "three_phase": True, "anneal_strategy": "linear"}),
    ("one_cycle", {"total_steps": 301, "pct_start": 0.25, "div_factor": 10.0}),
    ("one_cycle", {"total_steps": 310, "pct_start": 0.123, "final_div_factor": 1e6}),
    ("one_cycle", {"total_steps": 300, "pct_start": 0.0}),
    ("one_cycle", {"total_steps": 300, "pct_start": 1.0}),
    ("one_cycle", {"total_steps": 300, "pct_start": 0.5, "three_phase": True}),
    ("one_cycle", {"total_steps": 300, "pct_start": 0.001, "three_phase": True}),
    ("one_cycle", {"total_steps": 300, "pct_start": 0.7, "three_phase": True}),
    ("one_cycle", {"total_steps": 400, "base_momentum": 0.5, "max_momentum": 0.99}),
    ("one_cycle", {"total_steps": 300, "div_factor": 1.0, "final_div_factor": 1.0}),
]


def scheduled(name, arguments, *, adam=False):
    """Return an optimizer and its scheduler, as a user of PyTorch would build them."""
    parameters = [torch.nn.Parameter(torch.zeros(()))]
    if adam:
        optimizer = torch.optim.Adam(parameters, RATE, betas=(0.3, 0.999))
    else:
        optimizer = torch.optim.SGD(parameters, RATE, momentum=0.3)
    highest = {"cyclic": {"base_lr": RATE}, "one_cycle": {"max_lr": RATE}}.get(name, {})
    return optimizer, CLASSES[name](optimizer, **highest, **arguments)


def run(optimizer, scheduler, *, steps_per_epoch=1, steps=STEPS):
    """Return the learning rate and the momentum (Adam's beta1) of every step of a real loop."""
    rates, momenta = [], []
    (group,) = optimizer.param_groups
    for step in range(steps):
        rates.append(group["lr"])
        momenta.append(group["betas"][0] if "betas" in group else group["momentum"])
        optimizer.step()
        # The last step's scheduler.step() has no step to serve; OneCycleLR may not take it.
        if (step + 1) % steps_per_epoch == 0 and step + 1 < steps:
            scheduler.step()
    return rates, momenta


def closed_form(name, arguments):
    """Return the learning rates of PyTorch's closed form."""
    _, scheduler = scheduled(name, arguments)
    rates = []
    for scheduler.last_epoch in range(STEPS):
        (rate,) = scheduler._get_closed_form_lr()
        rates.append(rate)
    return rates
