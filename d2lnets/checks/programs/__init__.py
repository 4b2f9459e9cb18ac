"""The blocks and networks as programs, each with the mistakes that people make in it.

A program asks its first argument, `net`, for layers and computes the rest itself (`replaying.py`). Its last argument
`v` (variant) holds the choices that it is written with, which are right unless they are given. A mistake is a variant
with a wrong choice, and says in words what is wrong.
"""
