"""Groups of equal modules: every module once, stacking and splitting are inverse."""

from __future__ import annotations

import torch

from llgbm.generators.module_groups import module_groups, stack_group, unstack_groups


def test_every_module_is_in_one_group_of_its_shape(tiny_spec):
    groups = module_groups(tiny_spec)
    assert len(groups) == 4
    assert sorted(index for group in groups for index in group.indices) == list(range(14))
    for group in groups:
        for path, index in zip(group.paths, group.indices, strict=True):
            module = tiny_spec.modules[index]
            assert module.path == path
            assert (module.in_features, module.out_features) == (
                group.in_features,
                group.out_features,
            )


def test_unstacking_inverts_stacking_bitwise_and_without_copy(tiny_spec, make_teachers):
    weights = make_teachers(tiny_spec, 3)
    groups = module_groups(tiny_spec)
    stacked_A = [stack_group(weights.lora_A, group) for group in groups]
    stacked_B = [stack_group(weights.lora_B, group) for group in groups]
    back = unstack_groups(tiny_spec, groups, stacked_A, stacked_B)
    for path in tiny_spec.paths:
        assert torch.equal(back.lora_A[path], weights.lora_A[path])
        assert torch.equal(back.lora_B[path], weights.lora_B[path])
        assert back.lora_A[path].is_contiguous()
    first = back.lora_A[groups[0].paths[0]]
    assert first.untyped_storage().data_ptr() == stacked_A[0].untyped_storage().data_ptr()
