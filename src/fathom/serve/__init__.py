"""The gateway: every search in front of any model, as an OpenAI-compatible server with a playground.

``wire`` is what travels, ``asking`` what a request comes down to, ``plain`` and ``thinking`` the two ways to answer it,
``chat`` and ``responses`` the two protocols in front of both. ``gate`` lets requests in, ``server`` keeps the house.
"""
