"""Tests of every run's that take long, and of which a shorter test says the most part.

They are marked slow: a run on two cores is to take some 20 minutes. Test -> the parameter sets that
are meant, "" for all.
"""

LONG = {
    "test_assembly.py::test_dropout_reaches_the_network": [
        "squeezenet1_1-changes0-want0",
        "densenet121-changes1-want1",
    ],
    "test_augment.py::test_compiled_and_mapped_over_seeds_it_gives_the_same": [""],
    "test_augment.py::test_crops_have_the_networks_size_unless_told": [
        "random_resized_crop(size=5)-size1"
    ],
    "test_augment.py::test_hue_holds_where_a_compiler_computes_channels_twice": [""],
    "test_benchmark.py::test_an_epoch_in_bfloat16": [""],
    "test_benchmark.py::test_sides_that_differ_are_not_timed": ["eager"],
    "test_benchmark.py::test_times_all_sides_in_turn": [""],
    "test_benchmark_convolutions.py::test_times_both_sides_in_turn": [""],
    "test_compare_optimizers.py::test_every_step_of_lbfgs_is_torchs": ["strong_wolfe", "None"],
    "test_compare_optimizers.py::test_the_script_draws_both_and_keeps_the_losses": [""],
    "test_compile_time.py::test_table_of_one_run_and_the_limit_of_torch": ["text", "markdown"],
    "test_convert_weights.py::test_torchvision_modules_travel_there_and_back": [
        "densenet121-options2",
        "googlenet-options3",
        "googlenet-options4",
    ],
    "test_features.py::test_densenet121_from_its_head_on": [""],
    "test_features.py::test_googlenet_from_its_head_on": [""],
    "test_figures.py::test_macs_are_what_torchvision_publishes_as_gflops": ["densenet201"],
    "test_figures.py::test_receptive_field_is_what_a_pixel_depends_on": [
        "model1-size1",
        "model2-size2",
    ],
    "test_figures.py::test_xlas_count_of_a_network_is_near_the_formula": ["densenet121"],
    "test_gallery.py::test_feature_maps_are_the_layers_outputs": [""],
    "test_gallery.py::test_filters_are_those_of_the_layer_that_sees_the_image": [""],
    "test_layers_attention.py::test_second_gradients_of_gates_and_vmap": [
        "SpatialAttention-options7-arguments7-5-float64",
        "CBAM-options10-arguments10-16-float64",
        "CBAM-options11-arguments11-6-float64",
    ],
    "test_models_densenet.py::test_rematerialised_equals_kept": ["0.4"],
    "test_models_resnet.py::test_rematerialised_equals_kept": [""],
    "test_models_torchvision.py::test_twin_computes_what_torchvision_does": [
        "alexnet",
        "densenet121",
    ],
    "test_models_torchvision.py::test_weights_go_both_ways": ["alexnet", "resnet50", "densenet121"],
    "test_mutations_networks.py::test_mistake_is_caught": ["input not transformed"],
    "test_optim_lbfgs_runs.py::test_states_can_be_mapped": ["strong_wolfe"],
    "test_parity.py::test_activations_hold_every_layer_of_the_twin": ["resnet18", "densenet_cifar"],
    "test_parity.py::test_float32_errors_are_rounding": [
        "output, training-squeezenet1_1",
        "gradients, training-squeezenet1_1",
    ],
    "test_parity.py::test_float64": [
        "alexnet-activations, training",
        "alexnet-gradients, training",
        "resnet_cifar-statistics, 1 batch",
        "densenet_cifar-output, evaluation",
        "densenet_cifar-activations, evaluation",
        "squeezenet1_1-10 steps, decay per epoch",
    ],
    "test_parity.py::test_logits_follow_num_classes_and_batch_size": ["densenet_cifar"],
    "test_parity.py::test_weights_survive_the_way_through_torch": [
        "alexnet-float64",
        "alexnet-float32",
    ],
    "test_parity_precision.py::test_bfloat16_rounds_and_nothing_else": ["resnet18"],
    "test_parity_precision.py::test_table": [""],
    "test_precision.py::test_every_array_of_the_state_stays_float32": [
        "densenet_cifar",
        "googlenet_cifar",
        "resnet18",
    ],
    "test_pretrained.py::test_every_network_is_found_by_its_keys_and_shapes": [
        "densenet121",
        "resnet50",
    ],
    "test_processes.py::test_a_lost_process_ends_the_other_and_leaves_the_checkpoint": ["0"],
    "test_processes.py::test_a_signal_to_one_stops_both": [""],
    "test_runs.py::test_resume_with_each_new_setting_to_the_bit": ["optimizer0"],
    "test_runs_transfer.py::test_resume_to_the_bit": ["augment"],
    "test_scripts.py::test_a_diverging_run_says_so": [""],
    "test_scripts.py::test_seeds_in_one_program_and_their_summary": [""],
    "test_seeds.py::test_a_nan_names_the_seed_and_ends_all_at_the_same_checkpoint": [""],
    "test_seeds.py::test_each_seed_is_as_alone_in_float64": [""],
    "test_seeds.py::test_folders_are_those_of_runs_alone": ["features", "unfrozen"],
    "test_summary.py::test_parameters_add_up_to_the_twins": ["densenet161"],
    "test_summary.py::test_recomputed_blocks_are_listed_once": [""],
    "test_transfer_parity.py::test_steps_are_torchs": ["sgd-3-changes2", "nadam-3-changes5"],
    "test_weights.py::test_round_trip_through_torch_is_exact": ["vgg11", "vgg11_bn"],
}
