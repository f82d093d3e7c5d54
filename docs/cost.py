#!/usr/bin/env python3
"""What a month costs, here and elsewhere: cost.py [--messages N] [--bytes N].

Prices are list prices in US dollars of us-east-1 (Azure: East US), without free
tiers and discounts; docs/cost.md says where each comes from and what is assumed.
"""

import argparse
import math

HOURS = 730  # a month
DAYS = 30.4
MINUTES = 60 * HOURS

# Prices, by the unit that follows the name.
FARGATE_VCPU_HOUR, FARGATE_GB_HOUR = 0.03238, 0.00356  # ARM
ALB_HOUR, ALB_LCU_HOUR, LCU_CONNECTIONS, LCU_GB_HOUR = 0.0225, 0.008, 3000, 1.0
HTTP_API_MILLION = 1.00
LAMBDA_MILLION, LAMBDA_GB_SECOND = 0.20, 0.0000133334  # ARM
SQS_MILLION = 0.40
SECRET, ENDPOINT_HOUR = 0.40, 0.01
OUT_GB = 0.09
APIGW_MINUTES_MILLION, APIGW_MESSAGES_MILLION, APIGW_BYTES = 0.25, 1.00, 32 << 10
APPSYNC_MINUTES_MILLION, APPSYNC_OPERATIONS_MILLION, APPSYNC_BYTES = 0.08, 1.00, 5 << 10
AZURE_UNIT_DAY, AZURE_MESSAGES_MILLION, AZURE_BYTES = 1.61, 1.00, 2 << 10
ABLY_MONTH, ABLY_MESSAGES_MILLION, ABLY_MINUTES_MILLION = 29.0, 2.50, 1.00

# What this design needs, measured or chosen: see docs/cost.md.
PER_NODE, NODE_VCPU, NODE_GB = 20_000, 1, 2
COLLECT_SECONDS, DISPATCH_SECONDS, BATCH, MEMORY_GB = 0.014, 0.030, 5, 0.5
DATABASES = {1_000: 60.0, 100_000: 900.0, 1_000_000: 5000.0}  # Redis and MongoDB, a month


def ours(n, messages, size):
    """A month of n connections that get so many messages in all."""
    nodes = max(2, math.ceil(n / PER_NODE))
    gb = messages * size / 1e9
    lcu = max(n / LCU_CONNECTIONS, gb / HOURS / LCU_GB_HOUR)
    fargate = nodes * HOURS * (NODE_VCPU * FARGATE_VCPU_HOUR + NODE_GB * FARGATE_GB_HOUR)
    balancer = HOURS * (ALB_HOUR + lcu * ALB_LCU_HOUR)
    batches = messages / BATCH
    work = (
        messages / 1e6 * (HTTP_API_MILLION + LAMBDA_MILLION + SQS_MILLION)
        + batches / 1e6 * (LAMBDA_MILLION + 2 * SQS_MILLION)
        + (messages * COLLECT_SECONDS + batches * DISPATCH_SECONDS) * MEMORY_GB * LAMBDA_GB_SECOND
    )
    fixed = 5 * SECRET + 6 * 2 * ENDPOINT_HOUR * HOURS
    databases = DATABASES.get(n, 5000.0 * n / 1e6)
    return fargate + balancer + work + fixed + databases + gb * OUT_GB


def api_gateway(n, messages, size):
    metered = messages * math.ceil(size / APIGW_BYTES)
    return n * MINUTES / 1e6 * APIGW_MINUTES_MILLION + metered / 1e6 * APIGW_MESSAGES_MILLION + messages * size / 1e9 * OUT_GB


def appsync(n, messages, size):
    metered = 2 * messages * math.ceil(size / APPSYNC_BYTES)  # published and delivered
    return n * MINUTES / 1e6 * APPSYNC_MINUTES_MILLION + metered / 1e6 * APPSYNC_OPERATIONS_MILLION + messages * size / 1e9 * OUT_GB


def azure(n, messages, size):
    units = math.ceil(n / 1000)
    metered = messages * math.ceil(size / AZURE_BYTES)
    extra = max(0, metered - units * 1e6 * DAYS)
    return units * AZURE_UNIT_DAY * DAYS + extra / 1e6 * AZURE_MESSAGES_MILLION


def ably(n, messages, size):
    # A personal channel for each connection is a channel minute, too.
    return ABLY_MONTH + 2 * messages / 1e6 * ABLY_MESSAGES_MILLION + 2 * n * MINUTES / 1e6 * ABLY_MINUTES_MILLION


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--messages", type=float, default=20, help="messages that a connection gets a day")
    p.add_argument("--bytes", type=int, default=1024, help="bytes of a message")
    a = p.parse_args()
    print("| connections | messages a month | pushcluster | API Gateway WebSocket | AppSync Events | Azure Web PubSub | Ably |")
    print("|---|---|---|---|---|---|---|")
    for n in (1_000, 100_000, 1_000_000):
        messages = n * a.messages * DAYS
        cells = [f"${f(n, messages, a.bytes):,.0f}" for f in (ours, api_gateway, appsync, azure, ably)]
        print(f"| {n:,} | {messages / 1e6:,.1f} M | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
