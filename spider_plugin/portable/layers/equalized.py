"""Convolution and linear layers with equalised learning rate (Karras et al. 2018) and a leaky ReLU of unit gain.

This module is portable: it travels inside snapshots and imports only torch and the standard library."""

import math

import torch
import torch.nn.functional as F

#----------------------------------------------------------------------------

class EqualConv2d(torch.nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size=3, stride=1):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn([out_channels, in_channels, kernel_size, kernel_size]))
        self.bias = torch.nn.Parameter(torch.zeros([out_channels]))
        self.weight_gain = 1 / math.sqrt(in_channels * kernel_size ** 2)
        self.stride, self.padding = stride, (kernel_size - 1) // 2

    def forward(self, x):
        x = F.conv2d(x, self.weight * self.weight_gain, self.bias, stride=self.stride, padding=self.padding)
        return F.leaky_relu(x, 0.2) * math.sqrt(2)

class EqualLinear(torch.nn.Module):
    def __init__(self, in_features, out_features, activate=True):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn([out_features, in_features]))
        self.bias = torch.nn.Parameter(torch.zeros([out_features]))
        self.weight_gain = 1 / math.sqrt(in_features)
        self.activate = activate

    def forward(self, x):
        x = F.linear(x, self.weight * self.weight_gain, self.bias)
        return F.leaky_relu(x, 0.2) * math.sqrt(2) if self.activate else x

#----------------------------------------------------------------------------
