"""The graph `chat`: one model answers the conversation."""

from __future__ import annotations

from langgraph.graph import END, START, StateGraph

from orchestrator.graphs.registry import Graph
from orchestrator.nodes.llm import llm
from orchestrator.nodes.port import GraphState, RunContext

NAME = "chat"
VERSION = 1


def build() -> Graph:
    """The graph, compiled. Its events leave by the run's own `emit`: LangGraph's message stream costs 40 times more."""
    graph = StateGraph(GraphState, context_schema=RunContext)
    graph.add_node("model", llm)
    graph.add_edge(START, "model")
    graph.add_edge("model", END)
    return Graph(NAME, VERSION, graph.compile(name=NAME), only=llm)
