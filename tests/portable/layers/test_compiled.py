"""Networks under torch.compile: one graph, with the kernels as its nodes and the gradients of eager, and none made anew."""

import copy

import pytest
import torch
import torch._dynamo as dynamo

from benchmarks.cost.device_step import DSC, FASTGANS, SYNTHESES

FASTGAN = {f'FastGAN {name}': (make, dict(kwargs, lite=True)) for name, (make, kwargs) in FASTGANS.items()}
KERNELS = {'--fast': {'epilogue'}, '--dsc': {'depthwise', 'depthwise_up2', 'epilogue'},
           '--dsc --dsc-order=pointwise': {'depthwise', 'depthwise_up2_epilogue', 'epilogue'}}

@pytest.mark.slow
@pytest.mark.parametrize('name', [*SYNTHESES, *FASTGAN])
def test_a_network_is_one_graph_for_all_steps(open_kernels, name):
    open_kernels('cpu')
    assert DSC['rank'] == 1
    make, kwargs = (SYNTHESES | FASTGAN)[name]
    torch.manual_seed(0)
    G = make(32, **kwargs)
    inputs = [torch.randn(2, G.num_ws, G.w_dim)] if hasattr(G, 'num_ws') and name in SYNTHESES else \
        [torch.randn(2, G.z_dim), torch.zeros(2, 0)]
    for module in G.modules():
        if hasattr(module, 'use_fp16'):
            module.use_fp16 = False
    graphs = []
    def keep(graph, _inputs):
        parts = [part for part in graph.modules() if isinstance(part, torch.fx.GraphModule)]    # those of autograd functions, too
        graphs.append({str(node.target) for part in parts for node in part.graph.nodes if node.op == 'call_function'})
        return graph
    state = copy.deepcopy(G.state_dict())
    def step(network):
        G.load_state_dict(state)    # singular vectors of weights and moments go on with each pass
        G.zero_grad()
        torch.manual_seed(1)
        out = network(*inputs)
        out.square().mean().backward()
        return out.detach(), [p.grad for p in G.parameters() if p.grad is not None]
    dynamo.reset()
    expected, compiled = step(G), torch.compile(G, backend=keep)
    made = []
    for _ in range(4):
        torch.testing.assert_close(step(compiled), expected, rtol=1e-5, atol=1e-6)
        made.append(len(graphs))
    nodes = {node.partition('torch_utils_ext.')[2].partition('.')[0] for graph in graphs for node in graph} - {''}
    assert made == [1] * 4
    assert nodes >= KERNELS.get(name, set())
    dynamo.reset()
